// sparse_conv2d: a convolution over the rows that a table names, into new rows.
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"

namespace pixeltier {
namespace {

std::tuple<at::Tensor, c10::SymInt> sparse_conv2d(const at::Tensor& rows, const at::Tensor& table,
                                                  const at::Tensor& weight,
                                                  const std::optional<at::Tensor>& bias,
                                                  const std::optional<at::Tensor>& slope,
                                                  const std::optional<at::Tensor>& residual, int64_t outputs,
                                                  int64_t shuffle, int64_t macs_per_row, std::string isa) {
  const PackedConvolution c = check_convolution(rows, table, weight, bias, slope, outputs, isa);
  const int64_t count = table.size(0), children = shuffle * shuffle;
  TORCH_CHECK_VALUE(shuffle >= 1 && outputs % children == 0,
                    "shuffle must be at least 1 and its square divide the ", outputs, " outputs, got ",
                    shuffle);

  const int64_t channels = outputs / children;
  auto out = empty_rows(count * children, channels, rows.options());
  ConvArguments arguments = conv_arguments(c, rows, table);
  arguments.out = out.mutable_data_ptr();
  if (residual) {
    check_tensor(*residual, "residual", 2, rows.scalar_type());
    TORCH_CHECK_VALUE(residual->size(0) >= count * children && residual->size(1) == channels,
                      "residual must be [", count * children, " or more, ", channels, "], got ",
                      residual->sizes());
    arguments.residual = residual->const_data_ptr();
  }
  run_convolution(c, arguments, count);
  return {out, c10::SymInt(count * macs_per_row)};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "sparse_conv2d(Tensor rows, Tensor table, Tensor weight, Tensor? bias, Tensor? slope, Tensor? "
      "residual, "
      "int outputs, int shuffle, int macs_per_row, str isa) -> (Tensor, SymInt)",
      {at::Tag::pt2_compliant_tag});
  m.impl("sparse_conv2d", c10::DispatchKey::CPU, TORCH_FN(pixeltier::sparse_conv2d));
}
