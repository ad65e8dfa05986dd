#include "pixeltier/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include <cstdint>

namespace pixeltier {
namespace {

constexpr Isa kIsas[] = {Isa::portable,    Isa::avx2, Isa::avx512,
                         Isa::avx512_bf16, Isa::amx,  Isa::amx_emulated};
constexpr const char* kNames[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx", "amx_emulated"};

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

struct Features {
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx = false;

  Features() {
    const Registers one = cpuid(1, 0);
    if (!bit(one.ecx, 27)) return;  // OSXSAVE
    const uint64_t states = saved_states();
    const Registers seven = cpuid(7, 0), seven_one = cpuid(7, 1);
    const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6,
               tiles = (states & 0x60000) == 0x60000;
    avx2 = ymm && bit(one.ecx, 12) && bit(one.ecx, 28) && bit(seven.ebx, 5);
    avx512 =
        avx2 && zmm && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) && bit(seven.ebx, 31);
    avx512_bf16 = avx512 && bit(seven_one.eax, 5);
    amx = avx512_bf16 && tiles && bit(seven.edx, 22) && bit(seven.edx, 24) && request_tiles();
  }
};

bool supported(Isa isa) {
  static const Features features;
  switch (isa) {
    case Isa::portable:
      return true;
    case Isa::avx2:
      return features.avx2;
    case Isa::avx512:
      return features.avx512;
    case Isa::avx512_bf16:
      return features.avx512_bf16;
    case Isa::amx:
      return features.amx;
    case Isa::amx_emulated:
      return features.avx512_bf16;
  }
  return false;
}

#else

bool supported(Isa isa) { return isa == Isa::portable; }

#endif

}  // namespace

const char* isa_name(Isa isa) { return kNames[static_cast<int>(isa)]; }

bool parse_isa(const std::string& name, Isa& isa) {
  for (Isa candidate : kIsas)
    if (name == isa_name(candidate)) return isa = candidate, true;
  return false;
}

bool isa_available(Isa isa) { return supported(isa); }

std::vector<Isa> available_isas() {
  std::vector<Isa> all;
  for (Isa isa : kIsas)
    if (isa != Isa::amx_emulated && isa_available(isa)) all.push_back(isa);
  return all;
}

}  // namespace pixeltier
