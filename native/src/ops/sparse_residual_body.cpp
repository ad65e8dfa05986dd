// sparse_residual_body, winograd_residual_body: a chain of residual blocks over packed rows in one call.
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
                                            const OptionalTensors& slopes, int64_t count,
                                            const std::string& isa) {
  TORCH_CHECK_VALUE(!weights.empty(), "a body needs at least one convolution");
  TORCH_CHECK_VALUE(weights.size() == biases.size() && weights.size() == slopes.size(),
                    "a body needs a bias and a slope (or None) for each of its ", weights.size(),
                    " weights, got ", biases.size(), " and ", slopes.size());
  TORCH_CHECK_VALUE(rows.dim() == 2, "rows must have 2 dimensions, got shape ", rows.sizes());
  std::vector<PackedConvolution> layers;
  for (size_t i = 0; i < weights.size(); i++)
    layers.push_back(
        check_convolution(rows, table, weights[i], biases.get(i), slopes.get(i), rows.size(1), isa));
  TORCH_CHECK_VALUE(rows.size(0) == count + 1, "the body's rows must be those of its table, ", count,
                    " and a zero row, got ", rows.size(0));
  return layers;
}

void clear_last_row(at::Tensor& rows) {
  const int64_t bytes = rows.size(1) * rows.element_size();
  std::memset(static_cast<char*>(rows.mutable_data_ptr()) + (rows.size(0) - 1) * bytes, 0, bytes);
}

// run_layer(layer, from, residual, to): to = activate(layer(from) + residual). Residual and `to` may be the
// same rows: each is read before it is written. Two buffers serve all layers: the trunk, updated in place,
// and what the first convolution of a block leaves.
template <class RunLayer>
at::Tensor run_body(const std::vector<PackedConvolution>& layers, const at::Tensor& rows,
                    RunLayer run_layer) {
  at::Tensor trunk = at::empty_like(rows), inner = at::empty_like(rows);
  clear_last_row(trunk);
  clear_last_row(inner);
  const at::Tensor* input = &rows;
  for (size_t i = 0; i + 1 < layers.size(); i += 2) {
    run_layer(layers[i], *input, nullptr, inner);
    run_layer(layers[i + 1], inner, input, trunk);
    input = &trunk;
  }
  if (layers.size() % 2 == 0) return trunk;
  run_layer(layers.back(), *input, &rows, inner);
  return inner;
}

void set_rows(ConvArguments& arguments, const at::Tensor& from, const at::Tensor* residual, at::Tensor& to) {
  arguments.rows = from.const_data_ptr();
  arguments.residual = residual ? residual->const_data_ptr() : nullptr;
  arguments.out = to.mutable_data_ptr();
}

std::tuple<at::Tensor, c10::SymInt> sparse_residual_body(const at::Tensor& rows, const at::Tensor& table,
                                                         at::TensorList weights,
                                                         const OptionalTensors& biases,
                                                         const OptionalTensors& slopes, int64_t macs_per_row,
                                                         std::string isa) {
  const auto layers = check_layers(rows, table, weights, biases, slopes, table.size(0), isa);
  auto out = run_body(layers, rows,
                      [&](const PackedConvolution& layer, const at::Tensor& from, const at::Tensor* residual,
                          at::Tensor& to) {
                        ConvArguments arguments = conv_arguments(layer, from, table);
                        set_rows(arguments, from, residual, to);
                        run_convolution(layer, arguments, table.size(0));
                      });
  return {out, c10::SymInt(table.size(0) * macs_per_row)};
}

at::Tensor winograd_residual_body(const at::Tensor& rows, const at::Tensor& table,
                                  const at::Tensor& tile_outputs, at::TensorList weights,
                                  const OptionalTensors& biases, const OptionalTensors& slopes,
                                  std::string isa) {
  const int64_t count = rows.dim() == 2 ? rows.size(0) - 1 : 0;
  const auto layers = check_layers(rows, table, weights, biases, slopes, count, isa);
  const TileArguments tiles = tile_arguments(layers.front(), rows, table, tile_outputs, count);
  return run_body(layers, rows,
                  [&](const PackedConvolution& layer, const at::Tensor& from, const at::Tensor* residual,
                      at::Tensor& to) {
                    TileArguments arguments{conv_arguments(layer, from, table), tiles.outputs};
                    set_rows(arguments.conv, from, residual, to);
                    run_tiles(layer, arguments, table.size(0));
                  });
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "sparse_residual_body(Tensor rows, Tensor table, Tensor[] weights, Tensor?[] biases, Tensor?[] slopes, "
      "int macs_per_row, str isa) -> (Tensor, SymInt)",
      {at::Tag::pt2_compliant_tag});
  m.impl("sparse_residual_body", c10::DispatchKey::CPU, TORCH_FN(pixeltier::sparse_residual_body));
  m.def(
      "winograd_residual_body(Tensor rows, Tensor table, Tensor tile_outputs, Tensor[] weights, Tensor?[] "
      "biases, Tensor?[] slopes, str isa) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.impl("winograd_residual_body", c10::DispatchKey::CPU, TORCH_FN(pixeltier::winograd_residual_body));
}
