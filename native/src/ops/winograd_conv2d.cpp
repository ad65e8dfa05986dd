// winograd_conv2d, winograd_conv2d_scatter_: sparse_conv2d and sparse_conv2d_scatter_ in tiles.
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"

namespace pixeltier {
namespace {

at::Tensor winograd_conv2d(const at::Tensor& rows, const at::Tensor& table, const at::Tensor& tile_outputs,
                           const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           const std::optional<at::Tensor>& slope, const std::optional<at::Tensor>& residual,
                           int64_t count, int64_t outputs, int64_t shuffle, std::string isa) {
  const PackedConvolution c = check_convolution(rows, table, weight, bias, slope, outputs, isa);
  TileArguments arguments = tile_arguments(c, rows, table, tile_outputs, count);
  const int64_t children = shuffle * shuffle;
  TORCH_CHECK_VALUE(shuffle >= 1 && outputs % children == 0,
                    "shuffle must be at least 1 and its square divide the ", outputs, " outputs, got ",
                    shuffle);
  const int64_t channels = outputs / children;
  auto out = empty_rows(count * children, channels, rows.options());
  arguments.conv.out = out.mutable_data_ptr();
  if (residual) {
    check_tensor(*residual, "residual", 2, rows.scalar_type());
    TORCH_CHECK_VALUE(residual->size(0) >= count * children && residual->size(1) == channels,
                      "residual must be [", count * children, " or more, ", channels, "], got ",
                      residual->sizes());
    arguments.conv.residual = residual->const_data_ptr();
  }
  run_tiles(c, arguments, table.size(0));
  return out;
}

void winograd_conv2d_scatter_(at::Tensor& trunk, const at::Tensor& rows, const at::Tensor& table,
                              const at::Tensor& tile_outputs, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& slope,
                              const at::Tensor& active, int64_t outputs, std::string isa) {
  const PackedConvolution c = check_convolution(rows, table, weight, bias, slope, outputs, isa);
  const int64_t count = active.size(0);
  check_trunk(trunk, rows, active, count, outputs);
  TileArguments arguments = tile_arguments(c, rows, table, tile_outputs, count);
  arguments.conv.out = trunk.mutable_data_ptr();
  arguments.conv.out_rows = active.const_data_ptr<int32_t>();
  arguments.conv.residual = arguments.conv.out;
  arguments.conv.residual_rows = arguments.conv.out_rows;
  run_tiles(c, arguments, table.size(0));
}

bool has_winograd(at::ScalarType dtype, std::string isa, int64_t tile) {
  const RowKernel& kernel = require_kernel(isa, dtype);
  return kernel.run_tiles && (tile == 2 || (tile == 4 && kernel.element == Element::f32));
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "winograd_conv2d(Tensor rows, Tensor table, Tensor tile_outputs, Tensor weight, Tensor? bias, Tensor? "
      "slope, Tensor? residual, SymInt count, int outputs, int shuffle, str isa) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.impl("winograd_conv2d", c10::DispatchKey::CPU, TORCH_FN(pixeltier::winograd_conv2d));
  m.def(
      "winograd_conv2d_scatter_(Tensor(a!) trunk, Tensor rows, Tensor table, Tensor tile_outputs, Tensor "
      "weight, Tensor? bias, Tensor? slope, Tensor active, int outputs, str isa) -> ()",
      {at::Tag::pt2_compliant_tag});
  m.impl("winograd_conv2d_scatter_", c10::DispatchKey::CPU, TORCH_FN(pixeltier::winograd_conv2d_scatter_));
  m.def("has_winograd(ScalarType dtype, str isa, int tile) -> bool", pixeltier::has_winograd);
}
