#include "convolution.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "checks.h"
#include "isa.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

void check_rows(const at::Tensor& rows) {
  TORCH_CHECK_VALUE(rows.device().is_cpu(), "rows must be on the CPU, got ", rows.device());
  TORCH_CHECK_VALUE(rows.dim() == 2, "rows must have 2 dimensions, got shape ", rows.sizes());
  TORCH_CHECK_VALUE(rows.size(1) == 1 || rows.stride(1) == 1,
                    "rows must have their channels side by side, got strides ", rows.strides());
}

void check_padded(const std::optional<at::Tensor>& values, const char* name, int64_t padded) {
  if (!values) return;
  check_tensor(*values, name, 1, at::kFloat);
  TORCH_CHECK_VALUE(values->size(0) == padded, "a packed ", name, " must have ", padded, " values, got ",
                    values->size(0));
}

// How many groups of rows and of output blocks the threads share out between them.
struct Split {
  int64_t rows, blocks;
};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The split that keeps all threads busy. Where reading weights costs more than reading rows, one with as many
// groups of output blocks as can be, so that each thread streams weights of its own; otherwise as few.
Split split_work(int64_t row_blocks, int64_t output_blocks, int64_t threads, bool weights_dominate) {
  constexpr double kClearlyLess =
      0.9;  // of the work of the busiest thread, to depart from the order of preference
  const int64_t most = std::min(output_blocks, threads);
  Split best{1, 1};
  auto least = static_cast<double>(row_blocks * output_blocks);
  for (int64_t n = 1; n <= most; n++) {
    const int64_t blocks = weights_dominate ? most + 1 - n : n;
    const int64_t rows = std::max<int64_t>(1, std::min(row_blocks, threads / blocks));
    const auto work = static_cast<double>(divide_up(row_blocks, rows) * divide_up(output_blocks, blocks));
    if (work < least * kClearlyLess) {
      best = {rows, blocks};
      least = work;
    }
  }
  return best;
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
  check_rows(rows);
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

at::Tensor empty_rows(int64_t count, int64_t channels, const at::TensorOptions& options) {
  auto out = at::empty({count + kMostJoined, channels}, options);
  const int64_t row_bytes = channels * out.element_size();
  std::memset(static_cast<char*>(out.mutable_data_ptr()) + count * row_bytes, 0, kMostJoined * row_bytes);
  return out.narrow(0, 0, count + 1);
}

ConvArguments conv_arguments(const PackedConvolution& c, const at::Tensor& rows, const at::Tensor& table) {
  ConvArguments a{};
  a.rows = rows.const_data_ptr();
  a.row_stride = rows.stride(0);
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
  const int64_t row_blocks = divide_up(count, kernel.rows), output_blocks = kernel.layout.blocks(c.outputs);
  const Split split =
      split_work(row_blocks, output_blocks, at::get_num_threads(), c.weight.numel() > count * c.inputs);
  std::atomic<bool> valid{true};
  at::parallel_for(0, split.rows * split.blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t r = task % split.rows, b = task / split.rows;
      const Range rows{row_blocks * r / split.rows * kernel.rows,
                       std::min(row_blocks * (r + 1) / split.rows * kernel.rows, count)};
      const Range blocks{output_blocks * b / split.blocks, output_blocks * (b + 1) / split.blocks};
      if (!kernel.run(arguments, rows, blocks)) valid = false;
    }
  });
  TORCH_CHECK_INDEX(valid, "the table names a row outside of 0 to ", arguments.row_count);
}

TileArguments tile_arguments(const PackedConvolution& c, const at::Tensor& rows, const at::Tensor& table,
                             const at::Tensor& outputs, int64_t count) {
  check_tensor(outputs, "outputs", 2, at::kInt);
  const int64_t side = tile_side(table.size(1));
  TORCH_CHECK_VALUE(
      side > 0 && outputs.size(0) == table.size(0) && outputs.size(1) == side * side,
      "tiles need a table [tiles, 16] and outputs [tiles, 4], or [tiles, 36] and [tiles, 16], got ",
      table.sizes(), " and ", outputs.sizes());
  const auto* to = outputs.const_data_ptr<int32_t>();
  int32_t wanted = 0, least = 0, greatest = -1;
  for (int64_t i = 0; i < outputs.numel(); i++) {
    least = std::min(least, to[i]);
    greatest = std::max(greatest, to[i]);
    wanted += to[i] >= 0;
  }
  TORCH_CHECK_INDEX(least >= -1 && greatest < count, "a tile's outputs must be rows 0 to ", count - 1,
                    " or -1, got ", least < -1 ? least : greatest);
  TORCH_CHECK_VALUE(wanted == count, "the tiles must name each of ", count, " output rows once, got ",
                    wanted);
  return {conv_arguments(c, rows, table), to};
}

void run_tiles(const PackedConvolution& c, const TileArguments& arguments, int64_t tiles) {
  const RowKernel& kernel = *c.kernel;
  TORCH_CHECK_TYPE(kernel.run_tiles, "instruction set '", instruction_set(kernel.isa).name,
                   "' has no Winograd kernel");
  TORCH_CHECK_TYPE(c.taps == 16 || kernel.element == Element::f32, "Winograd tiles of 4x4 need float32 rows");
  const int64_t groups = std::min<int64_t>(divide_up(tiles, kernel.rows), at::get_num_threads());
  std::atomic<bool> valid{true};
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++)
      if (!kernel.run_tiles(arguments, {tiles * g / groups, tiles * (g + 1) / groups})) valid = false;
  });
  TORCH_CHECK_INDEX(valid, "the table names a row outside of 0 to ", arguments.conv.row_count);
}

}  // namespace pixeltier
