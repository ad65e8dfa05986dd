// child_table: the table of a grid twice as fine, after a pixel shuffle of 2.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <atomic>

#include "checks.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

int64_t side_of(int64_t taps) {
  int64_t side = 1;
  while (side * side < taps) side += 2;
  return side * side == taps ? side : -1;
}

at::Tensor child_table_op(const at::Tensor& parent, int64_t kernel) {
  check_tensor(parent, "parent", 2, at::kInt);
  check_kernel(kernel);
  const int64_t count = parent.size(0), parent_kernel = side_of(parent.size(1));
  TORCH_CHECK_VALUE(parent_kernel > 0 && parent_kernel / 2 >= (kernel / 2 + 1) / 2,
                    "the children's kernel of ", kernel,
                    " needs a parent table of an odd kernel of at least ", (kernel / 2 + 1) / 2 * 2 + 1,
                    " squared columns, got shape ", parent.sizes());
  TORCH_CHECK_VALUE(count <= std::numeric_limits<int32_t>::max() / 4,
                    "too many rows for 32-bit row numbers: ", count);
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
