// sparse_residual_body: a chain of residual blocks over packed rows in one call.
#include <ATen/core/List.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

#include "checks.h"
#include "convolution.h"

namespace pixeltier {
namespace {

using OptionalTensors = c10::List<std::optional<at::Tensor>>;

std::vector<PackedConvolution> check_layers(const at::Tensor& rows, const at::Tensor& table,
                                            at::TensorList weights, const OptionalTensors& biases,
                                            const OptionalTensors& slopes, const std::string& isa) {
  TORCH_CHECK_VALUE(!weights.empty(), "a body needs at least one convolution");
  TORCH_CHECK_VALUE(weights.size() == biases.size() && weights.size() == slopes.size(),
                    "a body needs a bias and a slope (or None) for each of its ", weights.size(),
                    " weights, got ", biases.size(), " and ", slopes.size());
  TORCH_CHECK_VALUE(rows.dim() == 2, "rows must have 2 dimensions, got shape ", rows.sizes());
  std::vector<PackedConvolution> layers;
  for (size_t i = 0; i < weights.size(); i++)
    layers.push_back(
        check_convolution(rows, table, weights[i], biases.get(i), slopes.get(i), rows.size(1), isa));
  TORCH_CHECK_VALUE(rows.size(0) == table.size(0) + 1, "the body's rows must be those of its table, ",
                    table.size(0), " and a zero row, got ", rows.size(0));
  return layers;
}

void clear_last_row(at::Tensor& rows) {
  const int64_t bytes = rows.size(1) * rows.element_size();
  std::memset(static_cast<char*>(rows.mutable_data_ptr()) + (rows.size(0) - 1) * bytes, 0, bytes);
}

// to = activate(layer(from) + residual). Residual and `to` may be the same rows: each is read before it is
// written.
void run_layer(const PackedConvolution& layer, const at::Tensor& from, const at::Tensor& table,
               const at::Tensor* residual, at::Tensor& to) {
  ConvArguments arguments = conv_arguments(layer, from, table);
  arguments.residual = residual ? residual->const_data_ptr() : nullptr;
  arguments.out = to.mutable_data_ptr();
  run_convolution(layer, arguments, table.size(0));
}

// Two buffers serve all layers: the trunk, updated in place, and what the first convolution of a block
// leaves.
std::tuple<at::Tensor, c10::SymInt> sparse_residual_body(const at::Tensor& rows, const at::Tensor& table,
                                                         at::TensorList weights,
                                                         const OptionalTensors& biases,
                                                         const OptionalTensors& slopes, int64_t macs_per_row,
                                                         std::string isa) {
  const auto layers = check_layers(rows, table, weights, biases, slopes, isa);
  at::Tensor trunk = at::empty_like(rows), inner = at::empty_like(rows);
  clear_last_row(trunk);
  clear_last_row(inner);
  const at::Tensor* input = &rows;
  for (size_t i = 0; i + 1 < layers.size(); i += 2) {
    run_layer(layers[i], *input, table, nullptr, inner);
    run_layer(layers[i + 1], inner, table, input, trunk);
    input = &trunk;
  }
  const c10::SymInt macs(table.size(0) * macs_per_row);
  if (layers.size() % 2 == 0) return {trunk, macs};
  run_layer(layers.back(), *input, table, &rows, inner);
  return {inner, macs};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "sparse_residual_body(Tensor rows, Tensor table, Tensor[] weights, Tensor?[] biases, Tensor?[] slopes, "
      "int macs_per_row, str isa) -> (Tensor, SymInt)",
      {at::Tag::pt2_compliant_tag});
  m.impl("sparse_residual_body", c10::DispatchKey::CPU, TORCH_FN(pixeltier::sparse_residual_body));
}
