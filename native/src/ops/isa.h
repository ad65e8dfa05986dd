#pragma once

#include <string>

#include "pixeltier/instruction_sets.h"

namespace pixeltier {

// The instruction set called `name`; ValueError where there is none or the processor lacks it.
Isa require_isa(const std::string& name);

}  // namespace pixeltier
