// The two dense kernels of networks of inverted residuals, as functions over raw pointers that are chosen by
// instruction set and element type. Torch-free.
//
// Cells are channels last. Channels are handled in vectors of `lanes`; whatever is stored has its channels
// padded to whole vectors, so that no kernel needs a tail.
//
// In fp32 a result is clamp(bias + sum + residual). In int8, inputs are bytes from 0 to 255, weights from
// -127 to 127 and sums int32: a result is float(sum) * scale + bias + float(residual) * residual_factor, each
// operation rounded to fp32, and as a byte that is rounded to nearest even and clamped to 0 to 255. Zero
// points are in the bias. All instruction sets give the same bytes.
#pragma once

#include <cstdint>

#include "pixeltier/instruction_sets.h"

namespace pixeltier {

enum class MbElement { f32, int8 };

// A convolution over rows: the sum of out[r, o] is that of weight[o, t, i] * rows[r * row_stride + t *
// tap_stride + i] over taps t and inputs i. A 1x1 convolution has one tap; the lines of a larger kernel are
// taps whose inputs lie side by side, and then rows overlap. Strides and sizes are in elements.
struct PointwiseArguments {
  const void* rows;  // int8: readable up to the next multiple of kInt8Depth inputs
  int64_t row_stride;
  int64_t taps, tap_stride, inputs;
  const void* weight;  // a panel for each vector of outputs: [tap][input / depth][lanes][depth]
  const float* bias;
  const float* scale;    // int8
  float low, high;       // fp32 results are clamped to these, also where they come from int8
  const void* residual;  // null: none
  int64_t residual_stride;
  float residual_factor;  // int8
  bool to_float;          // int8: the result is fp32, not bytes
  void* out;              // vector v of row r: out + r * out_stride + v * vector_stride
  int64_t out_stride, vector_stride;
};

constexpr int64_t kInt8Depth = 4;  // inputs that int8 kernels take at a time

// One line of one vector of channels of a depthwise convolution. A byte of 0 stands for zero.
struct DepthwiseArguments {
  const void* const*
      lines;  // the line of each line of the kernel: cells of `lanes`; null: outside of the image
  int64_t kernel, stride;  // 3 or 5, 1 or 2
  int64_t width;           // outputs; output x reads cells x * stride to x * stride + kernel - 1
  const void* weight;      // fp32: [kernel][kernel][lanes]; int8: [kernel][kernel / 4, rounded up][lanes][4]
  const float* bias;
  const float* scale;  // int8
  float low, high;     // fp32
  void* out;
  int64_t out_stride;
};

// int8 kernels read this many cells beyond the last one that they use.
constexpr int64_t kInt8CellsBeyond = 3;

struct MbKernel {
  Isa isa;
  MbElement element;
  int64_t lanes;    // channels of a vector
  int64_t vectors;  // of outputs that pointwise handles at a time
  int64_t rows;     // that pointwise handles at a time
  void (*pointwise)(const PointwiseArguments& arguments, int64_t rows, int64_t vectors);
  void (*depthwise)(const DepthwiseArguments& arguments);
};

// The kernel that `isa` uses for `element`; null where this build or this processor has none.
const MbKernel* find_mbconv_kernel(Isa isa, MbElement element);

// Of every kernel of this build, whether this processor can run it or not.
std::vector<KernelChoice> mbconv_kernel_choices();

}  // namespace pixeltier
