// cpu_isa, available_isas: which instruction set kernels use.
#include "isa.h"

#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cstdlib>

#include "cuda_weight.h"

namespace pixeltier {
namespace {

std::vector<std::string> available_names() {
  std::vector<std::string> names;
  for (Isa isa : available_isas()) names.emplace_back(isa_name(isa));
  return names;
}

std::string cpu_isa() {
  const char* forced = std::getenv("PIXELTIER_ISA");
  if (forced && *forced) return isa_name(require_isa(forced));
  return isa_name(available_isas().back());
}

}  // namespace

Isa require_isa(const std::string& name) {
  Isa isa;
  TORCH_CHECK_VALUE(!is_cuda_isa(name), "rows on the CPU cannot use a weight packed for '", name, "'");
  TORCH_CHECK_VALUE(parse_isa(name, isa), "unknown instruction set '", name,
                    "' (PIXELTIER_ISA or isa=): portable, avx2, avx512, avx512_bf16 and amx are known");
  TORCH_CHECK_VALUE(isa_available(isa), "this machine cannot run the instruction set '", name,
                    "' (PIXELTIER_ISA or isa=): it has ", c10::Join(", ", available_names()));
  return isa;
}

}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("cpu_isa() -> str", pixeltier::cpu_isa);
  m.def("available_isas() -> str[]", pixeltier::available_names);
}
