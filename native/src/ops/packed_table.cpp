// packed_table: the rows of active cells where the active list itself is the storage.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

at::Tensor packed_table_op(const at::Tensor& active, int64_t images, int64_t height, int64_t width,
                           int64_t kernel) {
  check_tensor(active, "active", 1, at::kInt);
  check_grid(images, height, width);
  check_kernel(kernel);
  const auto* cells = active.const_data_ptr<int32_t>();
  const int64_t count = active.size(0);
  const Grid grid{images, height, width};
  const int64_t wrong = first_invalid(cells, count, grid.cells());
  TORCH_CHECK_INDEX(wrong < 0, "active must ascend strictly within the ", grid.cells(),
                    " cells of the grid, got ", cells[wrong], " at position ", wrong);
  auto table = at::empty({count, kernel * kernel}, active.options());
  auto* to = table.mutable_data_ptr<int32_t>();
  at::parallel_for(0, count, 4096, [&](int64_t begin, int64_t end) {
    packed_table(cells, count, begin, end, grid, kernel, to);
  });
  return table;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("packed_table(Tensor active, SymInt images, SymInt height, SymInt width, int kernel) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.impl("packed_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::packed_table_op));
}
