// gather_rows: the rows of active cells, packed.
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/index_select.h>
#include <torch/library.h>

#include "checks.h"

namespace pixeltier {
namespace {

at::Tensor gather_rows(const at::Tensor& rows, const at::Tensor& active) {
  check_tensor(rows, "rows", 2, rows.scalar_type());
  check_tensor(active, "active", 1, at::kInt);
  return at::constant_pad_nd(rows.index_select(0, active), {0, 0, 0, 1});
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("gather_rows(Tensor rows, Tensor active) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("gather_rows", c10::DispatchKey::CPU, TORCH_FN(pixeltier::gather_rows));
}
