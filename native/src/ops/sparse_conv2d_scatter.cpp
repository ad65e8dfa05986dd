// sparse_conv2d_scatter_: a convolution added onto the active rows of a dense trunk, in place.
//
// It returns nothing, because torch.compile can only functionalise mutating ops that return nothing or fresh
// tensors; its Python surface gives the multiply-adds.
#include <torch/library.h>

#include "convolution.h"

namespace pixeltier {
namespace {

void sparse_conv2d_scatter_(at::Tensor& trunk, const at::Tensor& rows, const at::Tensor& table,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& slope, const at::Tensor& active, int64_t outputs,
                            std::string isa) {
  const PackedConvolution c = check_convolution(rows, table, weight, bias, slope, outputs, isa);
  const int64_t count = table.size(0);
  check_trunk(trunk, rows, active, count, outputs);
  ConvArguments arguments = conv_arguments(c, rows, table);
  arguments.out = trunk.mutable_data_ptr();
  arguments.out_rows = active.const_data_ptr<int32_t>();
  arguments.residual = arguments.out;
  arguments.residual_rows = arguments.out_rows;
  run_convolution(c, arguments, count);
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "sparse_conv2d_scatter_(Tensor(a!) trunk, Tensor rows, Tensor table, Tensor weight, Tensor? bias, "
      "Tensor? slope, "
      "Tensor active, int outputs, str isa) -> ()",
      {at::Tag::pt2_compliant_tag});
  m.impl("sparse_conv2d_scatter_", c10::DispatchKey::CPU, TORCH_FN(pixeltier::sparse_conv2d_scatter_));
}
