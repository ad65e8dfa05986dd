// activated_conv2d_: a convolution with any activation, by rows or by tiles, into rows that the caller has.
#include <torch/library.h>

#include <cstring>

#include "checks.h"
#include "convolution.h"

namespace pixeltier {
namespace {

Activation parse_activation(const std::string& name) {
  if (name == "prelu") return Activation::prelu;
  if (name == "silu") return Activation::silu;
  TORCH_CHECK_VALUE(name == "gate", "activation must be prelu, silu or gate, got '", name, "'");
  return Activation::gate;
}

bool overlap(const at::Tensor& a, const at::Tensor& b, int64_t b_bytes) {
  const auto *first = static_cast<const char*>(a.const_data_ptr()),
             *second = static_cast<const char*>(b.const_data_ptr());
  return first < second + b_bytes && second < first + static_cast<int64_t>(a.nbytes());
}

int64_t extent(const at::Tensor& rows) {
  return ((rows.size(0) - 1) * rows.stride(0) + rows.size(1)) * rows.element_size();
}

void check_residual(const at::Tensor& residual, const at::Tensor& out, const at::Tensor& rows,
                    int64_t count) {
  check_tensor(residual, "residual", 2, rows.scalar_type());
  TORCH_CHECK_VALUE(residual.size(0) >= count && residual.size(1) == out.size(1), "residual must be [", count,
                    " or more, ", out.size(1), "], got ", residual.sizes());
  const bool in_place =
      residual.const_data_ptr() == out.const_data_ptr() && residual.scalar_type() == out.scalar_type();
  TORCH_CHECK_VALUE(in_place || !overlap(out, residual, static_cast<int64_t>(residual.nbytes())),
                    "residual must be out itself or share no memory with it");
}

void activated_conv2d_(at::Tensor& out, const at::Tensor& rows, const at::Tensor& table,
                       const std::optional<at::Tensor>& tile_outputs, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& slope,
                       const std::optional<at::Tensor>& residual, std::string activation, std::string isa) {
  TORCH_CHECK_TYPE(out.scalar_type() == rows.scalar_type() || out.scalar_type() == at::kFloat,
                   "out must hold float32 or what rows hold, got ", out.scalar_type(), " and ",
                   rows.scalar_type());
  check_tensor(out, "out", 2, out.scalar_type());
  TORCH_CHECK_VALUE(out.size(0) >= 1, "out must have a last row for zeros, got shape ", out.sizes());
  const PackedConvolution c = check_convolution(rows, table, weight, bias, slope, out.size(1), isa);
  const int64_t count = out.size(0) - 1;
  TORCH_CHECK_VALUE(tile_outputs || table.size(0) == count, "out must have a row for each of the table's ",
                    table.size(0), " and one of zeros, got ", out.size(0));
  TORCH_CHECK_VALUE(!overlap(out, rows, extent(rows)), "out and rows must not share memory");
  const Activation kind = parse_activation(activation);
  TORCH_CHECK_VALUE(residual || kind != Activation::gate, "a gate needs a residual");
  TORCH_CHECK_VALUE(!slope || kind == Activation::prelu, "slopes go with prelu, got ", activation);
  if (residual) check_residual(*residual, out, rows, count);

  const auto complete = [&](ConvArguments& arguments) {
    arguments.out = out.mutable_data_ptr();
    arguments.residual = residual ? residual->const_data_ptr() : nullptr;
    arguments.activation = kind;
    arguments.float_out = out.scalar_type() != rows.scalar_type();
  };
  if (tile_outputs) {
    TileArguments arguments = tile_arguments(c, rows, table, *tile_outputs, count);
    complete(arguments.conv);
    run_tiles(c, arguments, table.size(0));
  } else {
    ConvArguments arguments = conv_arguments(c, rows, table);
    complete(arguments);
    run_convolution(c, arguments, count);
  }
  const int64_t row_bytes = out.size(1) * out.element_size();
  std::memset(static_cast<char*>(out.mutable_data_ptr()) + count * row_bytes, 0, row_bytes);
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "activated_conv2d_(Tensor(a!) out, Tensor rows, Tensor table, Tensor? tile_outputs, Tensor weight, "
      "Tensor? bias, Tensor? slope, Tensor? residual, str activation, str isa) -> ()",
      {at::Tag::pt2_compliant_tag});
  m.impl("activated_conv2d_", c10::DispatchKey::CPU, TORCH_FN(pixeltier::activated_conv2d_));
}
