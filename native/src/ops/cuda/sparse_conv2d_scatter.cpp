// sparse_conv2d_scatter_ on CUDA. The trunk may be float32 whatever the rows are.
#include <torch/library.h>

#include "convolution.h"

namespace pixeltier {
namespace {

void sparse_conv2d_scatter_(at::Tensor& trunk, const at::Tensor& rows, const at::Tensor& table,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& slope, const at::Tensor& active, int64_t outputs,
                            std::string isa) {
  CudaConvolution c = check_cuda_convolution(rows, table, weight, bias, slope, outputs, isa);
  const bool wide = trunk.scalar_type() == at::kFloat;
  check_cuda_tensor(trunk, "trunk", 2, wide ? at::kFloat : rows.scalar_type(), rows.device());
  check_cuda_tensor(active, "active", 1, at::kInt, rows.device());
  TORCH_CHECK_VALUE(trunk.size(0) >= 1 && trunk.size(1) == outputs, "trunk must be [rows + 1, ", outputs,
                    "], got ", trunk.sizes());
  TORCH_CHECK_VALUE(active.size(0) == c.count, "active must name one row for each of the table's ", c.count,
                    ", got ", active.size(0));
  TORCH_CHECK_VALUE(!trunk.storage().is_alias_of(rows.storage()), "trunk and rows must not share memory");
  const c10::cuda::CUDAGuard guard(rows.device());
  c.out = trunk.mutable_data_ptr();
  c.residual = c.out;
  c.out_rows = active.const_data_ptr<int32_t>();
  c.out_row_count = trunk.size(0) - 1;
  c.out_f32 = wide;
  cuda_convolution(current_queue(rows.device()), c);
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) {
  m.impl("sparse_conv2d_scatter_", TORCH_FN(pixeltier::sparse_conv2d_scatter_));
}
