// The stem of a residual network from the bytes of an image: convolution, activation, 3x3 maximum pool.
// Torch-free.
//
// The taps of one line of the kernel lie side by side in a channels-last image: they are one long row, and a
// 7x7 kernel over three channels is one of seven taps of 21 inputs. A few lines of the convolution's output
// at a time are pooled while they are in the second-level cache.
#pragma once

#include <vector>

#include "pixeltier/row_kernel.h"

namespace pixeltier {

struct StemArguments {
  const uint8_t* pixels;  // [images, height, width, channels]
  const void* levels;     // [channels, 256] of the kernel's element: what a byte stands for
  int64_t height, width, channels;
  int64_t stride;
  const RowKernel* kernel;
  // taps: the convolution's lines; inputs: taps * channels; weight, bias, slope. The rest is set by the stem.
  ConvArguments conv;
  void* out;  // rows [images * pooled_height() * pooled_width(), outputs]

  int64_t conv_height() const { return (height - 1) / stride + 1; }
  int64_t conv_width() const { return (width - 1) / stride + 1; }
  int64_t pooled_height() const { return (conv_height() + 1) / 2; }
  int64_t pooled_width() const { return (conv_width() + 1) / 2; }
};

// The table that all passes share, for pooled_stem.
std::vector<int32_t> stem_table(const StemArguments& arguments);

// Computes the pooled lines `lines` of one image.
void pooled_stem(const StemArguments& arguments, const std::vector<int32_t>& table, int64_t image,
                 Range lines);

}  // namespace pixeltier
