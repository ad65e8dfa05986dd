// cpu_isa, available_isas, kernels: which instruction set kernels use.
#include "isa.h"

#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstdlib>

#include "cuda_weight.h"
#include "pixeltier/mbconv_kernel.h"
#include "pixeltier/row_kernel.h"

namespace pixeltier {
namespace {

std::vector<std::string> names_of(const std::vector<Isa>& isas) {
  std::vector<std::string> names;
  for (Isa isa : isas) names.emplace_back(instruction_set(isa).name);
  return names;
}

std::vector<std::string> available_names() { return names_of(available_isas()); }

std::vector<std::string> kernel_lines() {
  std::vector<std::string> lines;
  for (const auto& choices : {row_kernel_choices(), mbconv_kernel_choices()})
    for (const KernelChoice& one : choices) lines.push_back(one.name + " " + one.isa + " " + one.chosen);
  return lines;
}

std::string cpu_isa() {
  const char* forced = std::getenv("PIXELTIER_ISA");
  if (forced && *forced) return instruction_set(require_isa(forced)).name;
  return instruction_set(available_isas().back()).name;
}

}  // namespace

Isa require_isa(const std::string& name) {
  Isa isa;
  TORCH_CHECK_VALUE(!is_cuda_isa(name), "rows on the CPU cannot use a weight packed for '", name, "'");
  TORCH_CHECK_VALUE(parse_isa(name, isa), "unknown instruction set '", name,
                    "' (PIXELTIER_ISA or isa=): ", c10::Join(", ", names_of(offered_isas())), " are known");
  TORCH_CHECK_VALUE(isa_available(isa), "this machine cannot run the instruction set '", name,
                    "' (PIXELTIER_ISA or isa=): it has ", c10::Join(", ", available_names()));
  return isa;
}

}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("cpu_isa() -> str", pixeltier::cpu_isa);
  m.def("available_isas() -> str[]", pixeltier::available_names);
  m.def("kernels() -> str[]", pixeltier::kernel_lines);
}
