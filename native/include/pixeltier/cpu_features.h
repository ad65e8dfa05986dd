// What the processor has and the operating system enables. Torch-free.
#pragma once

#include <cstdint>

namespace pixeltier {

// Flags of `Capability` (instruction_sets.h); asked once.
uint32_t cpu_capabilities();

}  // namespace pixeltier
