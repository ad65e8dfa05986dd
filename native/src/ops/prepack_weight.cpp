// prepack_weight: a convolution's weight in the layout of one instruction set's kernel, or of the CUDA
// kernels.
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"
#include "cuda_weight.h"

namespace pixeltier {
namespace {

// From torch.nn.PixelShuffle's order (channel, child) to (child, channel): a row is then its children's rows.
std::vector<int64_t> output_order(int64_t outputs, int64_t shuffle) {
  const int64_t children = shuffle * shuffle, channels = outputs / children;
  std::vector<int64_t> order(outputs);
  for (int64_t o = 0; o < outputs; o++) order[o] = o % channels * children + o / channels;
  return order;
}

at::Tensor prepack_weight(const at::Tensor& weight, at::ScalarType dtype, int64_t shuffle,
                          const std::string& isa) {
  check_tensor(weight, "weight", 4, at::kFloat);
  const int64_t outputs = weight.size(0), inputs = weight.size(1), taps = weight.size(2) * weight.size(3);
  TORCH_CHECK_VALUE(weight.numel() > 0, "weight must not be empty, got shape ", weight.sizes());
  TORCH_CHECK_VALUE(shuffle >= 1 && outputs % (shuffle * shuffle) == 0,
                    "shuffle must be at least 1 and its square divide the ", outputs, " outputs, got ",
                    shuffle);
  const auto order = output_order(outputs, shuffle);
  if (is_cuda_isa(isa)) {
    const CudaWeightLayout layout = cuda_layout(outputs, taps, inputs, dtype);
    auto packed = at::zeros({layout.size()}, weight.options().dtype(dtype));
    pack_cuda_weight(weight.const_data_ptr<float>(), order.data(), layout, packed.mutable_data_ptr());
    return packed;
  }
  const RowKernel& kernel = require_kernel(isa, dtype);
  auto packed =
      at::zeros({kernel.layout.size(outputs, taps, inputs, kernel.element)}, weight.options().dtype(dtype));
  pack_weight(weight.const_data_ptr<float>(), order.data(), outputs, inputs, taps, kernel.layout,
              element_of(dtype), packed.mutable_data_ptr());
  return packed;
}

// What bias and slope have to be padded to, and the packed weight's size: [padded outputs, size].
std::vector<int64_t> packed_sizes(int64_t outputs, int64_t inputs, int64_t taps, at::ScalarType dtype,
                                  const std::string& isa) {
  if (is_cuda_isa(isa)) {
    const CudaWeightLayout layout = cuda_layout(outputs, taps, inputs, dtype);
    return {layout.padded_outputs(), layout.size()};
  }
  const RowKernel& kernel = require_kernel(isa, dtype);
  return {kernel.layout.padded_outputs(outputs), kernel.layout.size(outputs, taps, inputs, kernel.element)};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("prepack_weight(Tensor weight, ScalarType dtype, int shuffle, str isa) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.impl("prepack_weight", c10::DispatchKey::CPU, TORCH_FN(pixeltier::prepack_weight));
  m.def("packed_sizes(int outputs, int inputs, int taps, ScalarType dtype, str isa) -> int[]",
        pixeltier::packed_sizes);
}
