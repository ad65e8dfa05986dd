// sparse_residual_body on CUDA: its layers one after another on the stream, in two buffers.
#include <ATen/core/List.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "convolution.h"

namespace pixeltier {
namespace {

using OptionalTensors = c10::List<std::optional<at::Tensor>>;

// to = activate(layer(from) + residual). Residual and `to` may be the same rows: a thread reads what it then
// writes, and nobody else does either.
void run_layer(CudaConvolution layer, const at::Tensor& from, const at::Tensor* residual,
               const at::Tensor& to) {
  layer.rows = from.const_data_ptr();
  layer.residual = residual ? residual->const_data_ptr() : nullptr;
  write_to(layer, to);
  cuda_convolution(current_queue(from.device()), layer);
}

std::tuple<at::Tensor, c10::SymInt> sparse_residual_body(const at::Tensor& rows, const at::Tensor& table,
                                                         at::TensorList weights,
                                                         const OptionalTensors& biases,
                                                         const OptionalTensors& slopes, int64_t macs_per_row,
                                                         std::string isa) {
  TORCH_CHECK_VALUE(!weights.empty(), "a body needs at least one convolution");
  TORCH_CHECK_VALUE(weights.size() == biases.size() && weights.size() == slopes.size(),
                    "a body needs a bias and a slope (or None) for each of its ", weights.size(),
                    " weights, got ", biases.size(), " and ", slopes.size());
  TORCH_CHECK_VALUE(rows.dim() == 2, "rows must have 2 dimensions, got shape ", rows.sizes());
  std::vector<CudaConvolution> layers;
  for (size_t i = 0; i < weights.size(); i++)
    layers.push_back(
        check_cuda_convolution(rows, table, weights[i], biases.get(i), slopes.get(i), rows.size(1), isa));
  TORCH_CHECK_VALUE(rows.size(0) == table.size(0) + 1, "the body's rows must be those of its table, ",
                    table.size(0), " and a zero row, got ", rows.size(0));

  const c10::cuda::CUDAGuard guard(rows.device());
  const at::Tensor trunk = at::empty_like(rows), inner = at::empty_like(rows);
  const at::Tensor* input = &rows;
  for (size_t i = 0; i + 1 < layers.size(); i += 2) {
    run_layer(layers[i], *input, nullptr, inner);
    run_layer(layers[i + 1], inner, input, trunk);
    input = &trunk;
  }
  const c10::SymInt macs(table.size(0) * macs_per_row);
  if (layers.size() % 2 == 0) return {trunk, macs};
  run_layer(layers.back(), *input, &rows, inner);
  return {inner, macs};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) {
  m.impl("sparse_residual_body", TORCH_FN(pixeltier::sparse_residual_body));
}
