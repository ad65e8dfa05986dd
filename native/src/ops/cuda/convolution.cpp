#include "convolution.h"

#include "../cuda_weight.h"

namespace pixeltier {
namespace {

const float* padded_values(const std::optional<at::Tensor>& values, const char* name, int64_t padded,
                           const at::Device& device) {
  if (!values) return nullptr;
  check_cuda_tensor(*values, name, 1, at::kFloat, device);
  TORCH_CHECK_VALUE(values->size(0) == padded, "a packed ", name, " must have ", padded, " values, got ",
                    values->size(0));
  return values->const_data_ptr<float>();
}

}  // namespace

CudaConvolution check_cuda_convolution(const at::Tensor& rows, const at::Tensor& table,
                                       const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                       const std::optional<at::Tensor>& slope, int64_t outputs,
                                       const std::string& isa) {
  const at::Device device = rows.device();
  TORCH_CHECK_VALUE(is_cuda_isa(isa), "rows on ", device,
                    " need a weight packed for cuda or cuda_tf32, got one for '", isa, "'");
  const CudaElement element = cuda_element_of(rows.scalar_type());
  check_cuda_tensor(rows, "rows", 2, rows.scalar_type(), device);
  check_cuda_tensor(table, "table", 2, at::kInt, device);
  check_cuda_tensor(weight, "weight", 1, rows.scalar_type(), device);
  TORCH_CHECK_VALUE(rows.size(0) >= 1 && rows.size(1) >= 1 && table.size(1) >= 1,
                    "rows must have a last row of zeros and at least one channel, got shape ", rows.sizes(),
                    " with a table ", table.sizes());
  TORCH_CHECK_VALUE(outputs >= 1, "outputs must be at least 1, got ", outputs);

  CudaConvolution c{};
  c.layout = {outputs, table.size(1), rows.size(1), element};
  TORCH_CHECK_VALUE(weight.numel() == c.layout.size(), "rows of ", rows.size(1), " channels and a table of ",
                    table.size(1), " taps need ", c.layout.size(), " packed weights for ", outputs,
                    " outputs on ", isa, ", got ", weight.numel());
  c.rows = rows.const_data_ptr();
  c.row_count = rows.size(0) - 1;
  c.table = table.const_data_ptr<int32_t>();
  c.count = table.size(0);
  c.math = isa == "cuda_tf32" ? FloatMath::tf32 : FloatMath::tf32x3;
  c.weight = weight.const_data_ptr();
  c.bias = padded_values(bias, "bias", c.layout.padded_outputs(), device);
  c.slope = padded_values(slope, "slope", c.layout.padded_outputs(), device);
  return c;
}

void write_to(CudaConvolution& convolution, const at::Tensor& out) {
  auto* const bytes = static_cast<char*>(out.mutable_data_ptr());
  convolution.out = bytes;
  convolution.out_row_count = convolution.count;
  convolution.out_f32 = out.scalar_type() == at::kFloat;
  convolution.zero_bytes = out.size(1) * out.element_size();
  convolution.zero_row = bytes + (out.size(0) - 1) * convolution.zero_bytes;
}

}  // namespace pixeltier
