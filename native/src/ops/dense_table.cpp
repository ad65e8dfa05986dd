// dense_table: the input rows of active output cells, for an input grid kept dense.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

at::Tensor dense_table_op(const at::Tensor& active, int64_t images, int64_t height, int64_t width,
                          int64_t kernel, int64_t stride) {
  check_tensor(active, "active", 1, at::kInt);
  check_grid(images, height, width);
  check_kernel(kernel);
  TORCH_CHECK_VALUE(stride >= 1, "stride must be at least 1, got ", stride);
  const auto* cells = active.const_data_ptr<int32_t>();
  const int64_t count = active.size(0),
                outputs = images * ((height - 1) / stride + 1) * ((width - 1) / stride + 1);
  const int64_t wrong = first_invalid(cells, count, outputs);
  TORCH_CHECK_INDEX(wrong < 0, "active must ascend strictly within the ", outputs,
                    " cells of the output grid, got ", cells[wrong], " at position ", wrong);
  auto table = at::empty({count, kernel * kernel}, active.options());
  auto* to = table.mutable_data_ptr<int32_t>();
  at::parallel_for(0, count, 4096, [&](int64_t begin, int64_t end) {
    dense_table(cells, begin, end, {images, height, width}, kernel, stride, to);
  });
  return table;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "dense_table(Tensor active, SymInt images, SymInt height, SymInt width, int kernel, int stride) -> "
      "Tensor",
      {at::Tag::pt2_compliant_tag});
  m.impl("dense_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::dense_table_op));
}
