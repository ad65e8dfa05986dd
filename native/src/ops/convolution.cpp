#include "convolution.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "checks.h"
#include "isa.h"

namespace pixeltier {
namespace {

void check_padded(const std::optional<at::Tensor>& values, const char* name, int64_t padded) {
  if (!values) return;
  check_tensor(*values, name, 1, at::kFloat);
  TORCH_CHECK_VALUE(values->size(0) == padded, "a packed ", name, " must have ", padded, " values, got ",
                    values->size(0));
}

// Whether threads should share out the output blocks instead of the rows: where reading weights costs more
// than reading rows (each thread then streams weights of its own), and the blocks divide evenly.
bool split_blocks(const PackedConvolution& c, int64_t count, int64_t threads) {
  const int64_t blocks = c.kernel->layout.blocks(c.outputs);
  return c.weight.numel() > count * c.inputs && (blocks % threads == 0 || blocks >= 4 * threads);
}

}  // namespace

Element element_of(at::ScalarType type) {
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16, "rows must be float32 or bfloat16, got ",
                   type);
  return type == at::kFloat ? Element::f32 : Element::bf16;
}

const RowKernel& require_kernel(const std::string& isa, at::ScalarType type) {
  const RowKernel* kernel = find_row_kernel(require_isa(isa), element_of(type));
  TORCH_CHECK_TYPE(kernel, "instruction set '", isa, "' has no kernel for ", type, " rows");
  return *kernel;
}

PackedConvolution check_convolution(const at::Tensor& rows, const at::Tensor& table, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias,
                                    const std::optional<at::Tensor>& slope, int64_t outputs,
                                    const std::string& isa) {
  const RowKernel& kernel = require_kernel(isa, rows.scalar_type());
  check_tensor(rows, "rows", 2, rows.scalar_type());
  check_tensor(table, "table", 2, at::kInt);
  check_tensor(weight, "weight", 1, rows.scalar_type());
  TORCH_CHECK_VALUE(rows.size(0) >= 1 && rows.size(1) >= 1,
                    "rows must have a last row of zeros and at least one channel, got shape ", rows.sizes());
  TORCH_CHECK_VALUE(outputs >= 1, "outputs must be at least 1, got ", outputs);
  PackedConvolution c{&kernel, weight, bias, slope, rows.size(1), outputs, table.size(1)};
  const int64_t expected = kernel.layout.size(outputs, c.taps, c.inputs, kernel.element);
  TORCH_CHECK_VALUE(weight.numel() == expected, "rows of ", c.inputs, " channels and a table of ", c.taps,
                    " taps need ", expected, " packed weights for ", outputs, " outputs on ", isa, ", got ",
                    weight.numel());
  check_padded(bias, "bias", kernel.layout.padded_outputs(outputs));
  check_padded(slope, "slope", kernel.layout.padded_outputs(outputs));
  return c;
}

ConvArguments conv_arguments(const PackedConvolution& c, const at::Tensor& rows, const at::Tensor& table) {
  ConvArguments a{};
  a.rows = rows.const_data_ptr();
  a.row_count = rows.size(0) - 1;
  a.table = table.const_data_ptr<int32_t>();
  a.taps = c.taps;
  a.inputs = c.inputs;
  a.outputs = c.outputs;
  a.weight = c.weight.const_data_ptr();
  a.occupancy = static_cast<const uint8_t*>(a.weight) +
                c.kernel->layout.weights(c.outputs, c.taps, c.inputs) * c.weight.element_size();
  a.bias = c.bias ? c.bias->const_data_ptr<float>() : nullptr;
  a.slope = c.slope ? c.slope->const_data_ptr<float>() : nullptr;
  return a;
}

void run_convolution(const PackedConvolution& c, const ConvArguments& arguments, int64_t count) {
  const RowKernel& kernel = *c.kernel;
  const int64_t blocks = kernel.layout.blocks(c.outputs);
  std::atomic<bool> valid{true};
  if (split_blocks(c, count, at::get_num_threads())) {
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      if (!kernel.run(arguments, {0, count}, {begin, end})) valid = false;
    });
  } else {
    const int64_t parts = (count + kernel.rows - 1) / kernel.rows;
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      const Range rows{begin * kernel.rows, std::min(end * kernel.rows, count)};
      if (!kernel.run(arguments, rows, {0, blocks})) valid = false;
    });
  }
  TORCH_CHECK_INDEX(valid, "the table names a row outside of 0 to ", arguments.row_count);
}

}  // namespace pixeltier
