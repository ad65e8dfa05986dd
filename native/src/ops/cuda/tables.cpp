// dense_table, packed_table, child_table and gather_rows on CUDA. Lists are not checked against the grid,
// which would have to wait for the device: entries that are not a cell make padded rows.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../checks.h"
#include "../sides.h"
#include "device.h"

namespace pixeltier {
namespace {

at::Tensor dense_table_op(const at::Tensor& active, int64_t images, int64_t height, int64_t width,
                          int64_t kernel, int64_t stride) {
  const at::Device device = active.device();
  check_cuda_tensor(active, "active", 1, at::kInt, device);
  check_grid(images, height, width);
  check_kernel(kernel);
  TORCH_CHECK_VALUE(stride >= 1, "stride must be at least 1, got ", stride);
  const c10::cuda::CUDAGuard guard(device);
  auto table = at::empty({active.size(0), kernel * kernel}, active.options());
  cuda_dense_table(current_queue(device), active.const_data_ptr<int32_t>(), active.size(0),
                   {images, height, width}, kernel, stride, table.mutable_data_ptr<int32_t>());
  return table;
}

at::Tensor packed_table_op(const at::Tensor& active, int64_t images, int64_t height, int64_t width,
                           int64_t kernel) {
  const at::Device device = active.device();
  check_cuda_tensor(active, "active", 1, at::kInt, device);
  check_grid(images, height, width);
  check_kernel(kernel);
  const c10::cuda::CUDAGuard guard(device);
  const Grid grid{images, height, width};
  auto position = at::empty({grid.cells()}, active.options());
  auto table = at::empty({active.size(0), kernel * kernel}, active.options());
  cuda_packed_table(current_queue(device), active.const_data_ptr<int32_t>(), active.size(0), grid, kernel,
                    position.mutable_data_ptr<int32_t>(), table.mutable_data_ptr<int32_t>());
  return table;
}

at::Tensor child_table_op(const at::Tensor& parent, int64_t kernel) {
  const at::Device device = parent.device();
  check_cuda_tensor(parent, "parent", 2, at::kInt, device);
  check_kernel(kernel);
  const int64_t count = parent.size(0), parent_kernel = check_parent(parent, kernel);
  const c10::cuda::CUDAGuard guard(device);
  auto table = at::empty({4 * count, kernel * kernel}, parent.options());
  cuda_child_table(current_queue(device), parent.const_data_ptr<int32_t>(), count, parent_kernel, kernel,
                   table.mutable_data_ptr<int32_t>());
  return table;
}

at::Tensor gather_rows(const at::Tensor& rows, const at::Tensor& active) {
  const at::Device device = rows.device();
  check_cuda_tensor(rows, "rows", 2, rows.scalar_type(), device);
  check_cuda_tensor(active, "active", 1, at::kInt, device);
  const int64_t bytes = rows.size(1) * rows.element_size();
  TORCH_CHECK_VALUE(rows.size(0) >= 1 && bytes % 4 == 0,
                    "rows must have a last row of zeros and a multiple of 4 bytes each, got ", rows.sizes(),
                    " of ", rows.scalar_type());
  const c10::cuda::CUDAGuard guard(device);
  auto out = at::empty({active.size(0) + 1, rows.size(1)}, rows.options());
  cuda_gather_rows(current_queue(device), rows.const_data_ptr(), rows.size(0) - 1,
                   active.const_data_ptr<int32_t>(), active.size(0), bytes, out.mutable_data_ptr());
  return out;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) {
  m.impl("dense_table", TORCH_FN(pixeltier::dense_table_op));
  m.impl("packed_table", TORCH_FN(pixeltier::packed_table_op));
  m.impl("child_table", TORCH_FN(pixeltier::child_table_op));
  m.impl("gather_rows", TORCH_FN(pixeltier::gather_rows));
}
