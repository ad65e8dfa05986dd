// compose on CUDA.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../checks.h"
#include "device.h"

namespace pixeltier {
namespace {

at::Tensor compose(const at::Tensor& x, const at::Tensor& pixels) {
  const at::Device device = x.device();
  check_cuda_tensor(x, "x", 4, at::kFloat, device);
  check_cuda_tensor(pixels, "pixels", 2, at::kFloat, device);
  const Grid grid{x.size(0), x.size(2), x.size(3)};
  check_grid(grid.images, grid.height, grid.width);
  TORCH_CHECK_VALUE(x.size(1) == 3 && pixels.size(0) == grid.cells() && pixels.size(1) == 48,
                    "x must be [N, 3, H, W] and pixels [N * H * W, 48], got ", x.sizes(), " and ",
                    pixels.sizes());
  const c10::cuda::CUDAGuard guard(device);
  auto image = at::empty({grid.images, 4 * grid.height, 4 * grid.width, 3}, x.options().dtype(at::kByte));
  const auto scratch = at::empty({compose_scratch(grid)}, x.options());
  cuda_compose(current_queue(device), x.const_data_ptr<float>(), pixels.const_data_ptr<float>(), grid,
               scratch.mutable_data_ptr<float>(), image.mutable_data_ptr<uint8_t>());
  return image;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) { m.impl("compose", TORCH_FN(pixeltier::compose)); }
