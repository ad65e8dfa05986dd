// sparse_conv2d on CUDA.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "convolution.h"

namespace pixeltier {
namespace {

std::tuple<at::Tensor, c10::SymInt> sparse_conv2d(const at::Tensor& rows, const at::Tensor& table,
                                                  const at::Tensor& weight,
                                                  const std::optional<at::Tensor>& bias,
                                                  const std::optional<at::Tensor>& slope,
                                                  const std::optional<at::Tensor>& residual, int64_t outputs,
                                                  int64_t shuffle, int64_t macs_per_row, std::string isa) {
  CudaConvolution c = check_cuda_convolution(rows, table, weight, bias, slope, outputs, isa);
  const int64_t count = table.size(0), children = shuffle * shuffle;
  TORCH_CHECK_VALUE(shuffle >= 1 && outputs % children == 0,
                    "shuffle must be at least 1 and its square divide the ", outputs, " outputs, got ",
                    shuffle);
  const int64_t channels = outputs / children;
  const c10::cuda::CUDAGuard guard(rows.device());
  // With room for a zero row of cells of 4x4 pixels, so that two shuffles by 2 can be seen as [cells + 1, 16
  // * channels] without a copy. Kernels never read zero rows.
  constexpr int64_t kRoom = 16;
  auto out =
      at::empty({count * children + kRoom, channels}, rows.options()).narrow(0, 0, count * children + 1);
  write_to(c, out);
  if (residual) {
    check_cuda_tensor(*residual, "residual", 2, rows.scalar_type(), rows.device());
    TORCH_CHECK_VALUE(residual->size(0) >= count * children && residual->size(1) == channels,
                      "residual must be [", count * children, " or more, ", channels, "], got ",
                      residual->sizes());
    c.residual = residual->const_data_ptr();
  }
  c.sparse_weight = macs_per_row < c.layout.taps * c.layout.inputs * outputs;
  cuda_convolution(current_queue(rows.device()), c);
  return {out, c10::SymInt(count * macs_per_row)};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) { m.impl("sparse_conv2d", TORCH_FN(pixeltier::sparse_conv2d)); }
