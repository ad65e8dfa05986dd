#include "pixeltier/cpu_features.h"

#include "pixeltier/instruction_sets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace pixeltier {
namespace {

#if defined(__x86_64__)

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t part) {
  Registers r;
  if (!__get_cpuid_count(leaf, part, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

// Which register states the operating system saves (XCR0).
uint64_t saved_states() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

constexpr bool bit(uint64_t word, int number) { return (word >> number) & 1; }

// Linux hands out the tile registers only to a process that asks for them.
bool request_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

uint32_t detect() {
  const Registers one = cpuid(1, 0);
  if (!bit(one.ecx, 27)) return 0;  // OSXSAVE
  const uint64_t states = saved_states();
  const Registers seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6,
             tiles = (states & 0x60000) == 0x60000;
  const bool avx2 = ymm && bit(one.ecx, 12) && bit(one.ecx, 28) && bit(seven.ebx, 5);
  const bool avx512 =
      avx2 && zmm && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) && bit(seven.ebx, 31);
  const bool bf16 = avx512 && bit(seven_one.eax, 5);
  uint32_t found = 0;
  if (avx2) found |= kAvx2;
  if (avx2 && bit(seven_one.eax, 4)) found |= kAvxVnni;
  if (avx512) found |= kAvx512;
  if (avx512 && bit(seven.ecx, 11)) found |= kAvx512Vnni;
  if (bf16) found |= kAvx512Bf16;
  if (bf16 && tiles && bit(seven.edx, 22) && bit(seven.edx, 24) && request_tiles()) found |= kAmx;
  return found;
}

#else

uint32_t detect() { return 0; }

#endif

}  // namespace

uint32_t cpu_capabilities() {
  static const uint32_t found = detect();
  return found;
}

}  // namespace pixeltier
