// The instruction sets that kernels are written for, as one table. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pixeltier {

// What a processor may have beyond what every one of its kind has. Flags, since no order holds all of them:
// one has AVX-VNNI and no AVX-512, another the reverse.
enum Capability : uint32_t {
  kAvx2 = 1 << 0,     // with FMA
  kAvxVnni = 1 << 1,  // 256 bits
  kAvx512 = 1 << 2,   // F, BW, DQ, VL
  kAvx512Vnni = 1 << 3,
  kAvx512Bf16 = 1 << 4,
  kAmx = 1 << 5,  // tiles and their bf16 products
};

// Name, what its kernels use, whether it is offered. Of those that a processor can run the last one is
// chosen. amx_emulated is for tests: the AMX kernel with its tile operations in software, only asked for by
// name.
#define PIXELTIER_INSTRUCTION_SETS(SET)                               \
  SET(portable, 0, true)                                              \
  SET(avx2, kAvx2, true)                                              \
  SET(avx_vnni, kAvx2 | kAvxVnni, true)                               \
  SET(avx512, kAvx2 | kAvx512, true)                                  \
  SET(avx512_vnni, kAvx2 | kAvx512 | kAvx512Vnni, true)               \
  SET(avx512_bf16, kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16, true) \
  SET(amx, kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16 | kAmx, true)  \
  SET(amx_emulated, kAvx2 | kAvx512 | kAvx512Vnni | kAvx512Bf16, false)

enum class Isa {
#define PIXELTIER_NAME(name, capabilities, offered) name,
  PIXELTIER_INSTRUCTION_SETS(PIXELTIER_NAME)
#undef PIXELTIER_NAME
};

struct InstructionSet {
  const char* name;
  uint32_t capabilities;
  bool offered;
};

inline constexpr InstructionSet kInstructionSets[] = {
#define PIXELTIER_ROW(name, capabilities, offered) {#name, capabilities, offered},
    PIXELTIER_INSTRUCTION_SETS(PIXELTIER_ROW)
#undef PIXELTIER_ROW
};

constexpr const InstructionSet& instruction_set(Isa isa) { return kInstructionSets[static_cast<int>(isa)]; }

// Writes to `isa` and returns true where `name` is one of the table's.
bool parse_isa(const std::string& name, Isa& isa);

// Supported by the processor and enabled by the operating system.
bool isa_available(Isa isa);

// All that are offered, in the table's order, and those of them that are available; portable always is.
std::vector<Isa> offered_isas();
std::vector<Isa> available_isas();

// Of `kernels` for `element`, the one that `isa` uses: its own, else that of the last set of the table whose
// capabilities are all among its own. Null where there is none. The order of `kernels` has no say.
template <class Kernel, class Element, int count>
const Kernel* preferred_kernel(const Kernel* const (&kernels)[count], Isa isa, Element element) {
  const Kernel* found = nullptr;
  for (const Kernel* kernel : kernels) {
    const InstructionSet& set = instruction_set(kernel->isa);
    const bool usable =
        kernel->isa == isa || (set.offered && (set.capabilities & ~instruction_set(isa).capabilities) == 0);
    if (kernel->element == element && usable && (!found || kernel->isa == isa || found->isa < kernel->isa))
      found = kernel;
    if (found && found->isa == isa) return found;
  }
  return found;
}

// A kernel, its set, and the kernel that this set uses for its element type: itself, or it would never run.
struct KernelChoice {
  std::string name, isa, chosen;
};

template <class Kernel, int count>
std::vector<KernelChoice> kernel_choices(const Kernel* const (&kernels)[count],
                                         const char* const (&names)[count]) {
  std::vector<KernelChoice> all;
  for (int i = 0; i < count; i++) {
    const Kernel* chosen = preferred_kernel(kernels, kernels[i]->isa, kernels[i]->element);
    for (int j = 0; j < count; j++)
      if (kernels[j] == chosen) all.push_back({names[i], instruction_set(kernels[i]->isa).name, names[j]});
  }
  return all;
}

}  // namespace pixeltier
