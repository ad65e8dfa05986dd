// What the convolution ops share: arguments as tensors, their checks, the split over threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "pixeltier/row_kernel.h"

namespace pixeltier {

// A convolution as prepack_weight laid it out for `kernel`.
struct PackedConvolution {
  const RowKernel* kernel;
  at::Tensor weight;
  std::optional<at::Tensor> bias, slope;  // padded to the layout's outputs
  int64_t inputs, outputs, taps;
};

Element element_of(at::ScalarType type);

// The kernel of instruction set `isa` for rows of `type`; ValueError or TypeError where there is none.
const RowKernel& require_kernel(const std::string& isa, at::ScalarType type);

// Checks the rows, the table and the packed weight against each other.
PackedConvolution check_convolution(const at::Tensor& rows, const at::Tensor& table, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias,
                                    const std::optional<at::Tensor>& slope, int64_t outputs,
                                    const std::string& isa);

// Checks what a scatter writes to: `active` names `count` rows of the trunk, whose memory `rows` does not
// share.
void check_trunk(const at::Tensor& trunk, const at::Tensor& rows, const at::Tensor& active, int64_t count,
                 int64_t outputs);

// Rows [count + 1, channels], the last one zero, the others not set. Zeros go on behind it for up to
// kMostJoined rows in all, so that as many rows can be seen as one, with a zero row of their own, without a
// copy.
constexpr int64_t kMostJoined = 16;
at::Tensor empty_rows(int64_t count, int64_t channels, const at::TensorOptions& options);

// Pointers and sizes of a checked convolution; residual and out are the caller's to set.
ConvArguments conv_arguments(const PackedConvolution& c, const at::Tensor& rows, const at::Tensor& table);

// Runs it for `count` table rows on torch's threads; IndexError where the table names a row that does not
// exist.
void run_convolution(const PackedConvolution& c, const ConvArguments& arguments, int64_t count);

// The rows of `count` outputs that Winograd's tiles name, checked: table [tiles, 16], outputs [tiles, 4].
TileArguments tile_arguments(const PackedConvolution& c, const at::Tensor& rows, const at::Tensor& table,
                             const at::Tensor& outputs, int64_t count);

// As run_convolution, tile by tile; TypeError where the instruction set has no kernel for it.
void run_tiles(const PackedConvolution& c, const TileArguments& arguments, int64_t tiles);

}  // namespace pixeltier
