// From register blocks to MbKernel: lines and rows are cut into blocks of nearly equal size.
//
// Blocks provides lanes, rows, vectors, tile and the functions pointwise<rows, vectors> and
// depthwise<kernel, stride, cells> for one register block.
#pragma once

#include <utility>

#include "mbconv_kernels.h"

namespace pixeltier {

using PointwiseBlock = void (*)(const PointwiseArguments&, int64_t row, int64_t vector);
using DepthwiseBlock = void (*)(const DepthwiseArguments&, int64_t x);

template <class Blocks, int kVectors, int... kRows>
PointwiseBlock pointwise_function(int64_t rows, std::integer_sequence<int, kRows...>) {
  static constexpr PointwiseBlock functions[] = {&Blocks::template pointwise<kRows + 1, kVectors>...};
  return functions[rows - 1];
}

template <class Blocks, int kKernel, int kStride, int... kCells>
DepthwiseBlock depthwise_function(int64_t cells, std::integer_sequence<int, kCells...>) {
  static constexpr DepthwiseBlock functions[] = {
      &Blocks::template depthwise<kKernel, kStride, kCells + 1>...};
  return functions[cells - 1];
}

template <class Blocks>
void run_pointwise(const PointwiseArguments& a, int64_t rows, int64_t vectors) {
  static_assert(Blocks::vectors == 2, "one instantiation for each number of vectors in a block");
  constexpr auto all = std::make_integer_sequence<int, Blocks::rows>();
  const int64_t parts = (rows + Blocks::rows - 1) / Blocks::rows;
  for (int64_t v = 0; v < vectors; v += 2)
    for (int64_t p = 0; p < parts; p++) {
      const int64_t first = rows * p / parts, count = rows * (p + 1) / parts - first;
      const PointwiseBlock block = v + 1 < vectors ? pointwise_function<Blocks, 2>(count, all)
                                                   : pointwise_function<Blocks, 1>(count, all);
      block(a, first, v);
    }
}

template <class Blocks>
DepthwiseBlock depthwise_function(int64_t kernel, int64_t stride, int64_t cells) {
  constexpr auto all = std::make_integer_sequence<int, Blocks::tile>();
  if (kernel == 3)
    return stride == 1 ? depthwise_function<Blocks, 3, 1>(cells, all)
                       : depthwise_function<Blocks, 3, 2>(cells, all);
  return stride == 1 ? depthwise_function<Blocks, 5, 1>(cells, all)
                     : depthwise_function<Blocks, 5, 2>(cells, all);
}

template <class Blocks>
void run_depthwise(const DepthwiseArguments& a) {
  const int64_t parts = (a.width + Blocks::tile - 1) / Blocks::tile;
  for (int64_t p = 0; p < parts; p++) {
    const int64_t x = a.width * p / parts, next = a.width * (p + 1) / parts;
    depthwise_function<Blocks>(a.kernel, a.stride, next - x)(a, x);
  }
}

template <class Blocks>
constexpr MbKernel make_mbconv_kernel(Isa isa, MbElement element) {
  return {isa,
          element,
          Blocks::lanes,
          Blocks::vectors,
          Blocks::rows,
          &run_pointwise<Blocks>,
          &run_depthwise<Blocks>};
}

}  // namespace pixeltier
