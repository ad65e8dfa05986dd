// Lets the extension run on older versions of glibc than that it was built on.
//
// The headers of libstdc++ ask __libc_single_threaded, which glibc has from 2.32 on, whether a reference
// count may do without atomic operations. Here it may not: torch always has threads. Nothing else of the
// extension is newer than 2.16.

extern "C" {
extern __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0;
}
