// child_table: the table of a grid twice as fine, after a pixel shuffle of 2.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <atomic>

#include "checks.h"
#include "pixeltier/plan.h"
#include "sides.h"

namespace pixeltier {
namespace {

at::Tensor child_table_op(const at::Tensor& parent, int64_t kernel) {
  check_tensor(parent, "parent", 2, at::kInt);
  check_kernel(kernel);
  const int64_t count = parent.size(0), parent_kernel = check_parent(parent, kernel);
  auto table = at::empty({4 * count, kernel * kernel}, parent.options());
  const auto* from = parent.const_data_ptr<int32_t>();
  auto* to = table.mutable_data_ptr<int32_t>();
  std::atomic<bool> valid{true};
  at::parallel_for(0, count, 1024, [&](int64_t begin, int64_t end) {
    if (!child_table(from, count, begin, end, parent_kernel, kernel, to)) valid = false;
  });
  TORCH_CHECK_INDEX(valid, "a packed parent table of ", count, " rows must name rows 0 to ", count);
  return table;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("child_table(Tensor parent, int kernel) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("child_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::child_table_op));
}
