#include "pixeltier/instruction_sets.h"

#include "pixeltier/cpu_features.h"

namespace pixeltier {
namespace {

constexpr int kCount = sizeof(kInstructionSets) / sizeof(kInstructionSets[0]);

}  // namespace

bool parse_isa(const std::string& name, Isa& isa) {
  for (int i = 0; i < kCount; i++)
    if (name == kInstructionSets[i].name) return isa = static_cast<Isa>(i), true;
  return false;
}

bool isa_available(Isa isa) { return (instruction_set(isa).capabilities & ~cpu_capabilities()) == 0; }

std::vector<Isa> offered_isas() {
  std::vector<Isa> all;
  for (int i = 0; i < kCount; i++)
    if (kInstructionSets[i].offered) all.push_back(static_cast<Isa>(i));
  return all;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> all = offered_isas();
  std::erase_if(all, [](Isa isa) { return !isa_available(isa); });
  return all;
}

}  // namespace pixeltier
