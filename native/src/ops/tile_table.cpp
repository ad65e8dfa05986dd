// tile_table, child_tile_table: which rows the tiles of a Winograd convolution read and write.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <atomic>

#include "checks.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

std::tuple<at::Tensor, at::Tensor> tile_table_op(const at::Tensor& active, int64_t images, int64_t height,
                                                 int64_t width, bool packed, int64_t size) {
  TORCH_CHECK_VALUE(size == 2 || size == 4, "tiles are of 2x2 or 4x4, got size ", size);
  check_tensor(active, "active", 1, at::kInt);
  check_grid(images, height, width);
  const auto* cells = active.const_data_ptr<int32_t>();
  const int64_t count = active.size(0);
  const Grid grid{images, height, width};
  const int64_t wrong = first_invalid(cells, count, grid.cells());
  TORCH_CHECK_INDEX(wrong < 0, "active must ascend strictly within the ", grid.cells(),
                    " cells of the grid, got ", cells[wrong], " at position ", wrong);
  auto position = at::full({grid.cells()}, -1, active.options());
  auto* places = position.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < count; i++) places[cells[i]] = static_cast<int32_t>(i);
  const int64_t tiles = tile_table(places, count, grid, packed, size, nullptr, nullptr);
  auto table = at::empty({tiles, (size + 2) * (size + 2)}, active.options());
  auto outputs = at::empty({tiles, size * size}, active.options());
  tile_table(places, count, grid, packed, size, table.mutable_data_ptr<int32_t>(),
             outputs.mutable_data_ptr<int32_t>());
  return {table, outputs};
}

at::Tensor child_tile_table_op(const at::Tensor& parent) {
  check_tensor(parent, "parent", 2, at::kInt);
  const int64_t count = parent.size(0);
  TORCH_CHECK_VALUE(parent.size(1) == 9, "the parent table must be of a 3x3 convolution, got shape ",
                    parent.sizes());
  TORCH_CHECK_VALUE(count <= std::numeric_limits<int32_t>::max() / 4,
                    "too many rows for 32-bit row numbers: ", count);
  auto table = at::empty({count, 16}, parent.options());
  const auto* from = parent.const_data_ptr<int32_t>();
  auto* to = table.mutable_data_ptr<int32_t>();
  std::atomic<bool> valid{true};
  at::parallel_for(0, count, 2048, [&](int64_t begin, int64_t end) {
    if (!child_tile_table(from, count, begin, end, to)) valid = false;
  });
  TORCH_CHECK_INDEX(valid, "a packed parent table of ", count, " rows must name rows 0 to ", count);
  return table;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "tile_table(Tensor active, SymInt images, SymInt height, SymInt width, bool packed, int size) -> "
      "(Tensor, "
      "Tensor)",
      {at::Tag::pt2_compliant_tag});
  m.impl("tile_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::tile_table_op));
  m.def("child_tile_table(Tensor parent) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("child_tile_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::child_tile_table_op));
}
