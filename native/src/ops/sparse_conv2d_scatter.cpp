// sparse_conv2d_scatter_: a convolution added onto the active rows of a dense trunk, in place.
//
// It returns nothing, because torch.compile can only functionalise mutating ops that return nothing or fresh
// tensors; its Python surface gives the multiply-adds.
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

void check_trunk(const at::Tensor& trunk, const at::Tensor& rows, const at::Tensor& active, int64_t count,
                 int64_t outputs) {
  check_tensor(trunk, "trunk", 2, rows.scalar_type());
  check_tensor(active, "active", 1, at::kInt);
  TORCH_CHECK_VALUE(trunk.size(0) >= 1 && trunk.size(1) == outputs, "trunk must be [rows + 1, ", outputs,
                    "], got ", trunk.sizes());
  TORCH_CHECK_VALUE(active.size(0) == count, "active must name one row for each of the table's ", count,
                    ", got ", active.size(0));
  TORCH_CHECK_VALUE(!trunk.storage().is_alias_of(rows.storage()), "trunk and rows must not share memory");
  const auto* to = active.const_data_ptr<int32_t>();
  const int64_t wrong = first_invalid(to, count, trunk.size(0) - 1);
  TORCH_CHECK_INDEX(wrong < 0, "active must ascend strictly within the trunk's ", trunk.size(0) - 1,
                    " rows, got ", to[wrong], " at position ", wrong);
}

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
