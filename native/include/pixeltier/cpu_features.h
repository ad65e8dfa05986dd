// What the processor can run. Torch-free.
#pragma once

#include <string>
#include <vector>

namespace pixeltier {

// Ordered: each later set is preferred over the ones before it. amx_emulated is for tests: the AMX kernel
// with its tile operations in software; it is never listed or chosen, only asked for by name.
enum class Isa { portable, avx2, avx512, avx512_bf16, amx, amx_emulated };

const char* isa_name(Isa isa);

// Writes to `isa` and returns true where `name` is one of the names above.
bool parse_isa(const std::string& name, Isa& isa);

// Built into this library, supported by the processor and enabled by the operating system.
bool isa_available(Isa isa);

// All available sets but the emulated one, slowest first; never empty (portable).
std::vector<Isa> available_isas();

}  // namespace pixeltier
