// The pointwise convolution over a vector type V: one file for each instruction set and element instantiates
// it.
//
// What V provides is the concept PointwiseVector.
//
// The order of additions for one output is tap, then input, whatever block it falls in: results do not depend
// on the number of threads. V must have internal linkage (an anonymous namespace): otherwise the linker would
// keep one copy of these functions for all instruction sets.
#pragma once

#include <concepts>

#include "pixeltier/mbconv_kernel.h"
#include "row_pointers.h"

namespace pixeltier {

template <class V>
concept PointwiseVector =
    requires(typename V::Sum sum, const typename V::Operand& operand, const typename V::Weight& weight,
             const PointwiseArguments& arguments, const float* bias, const void* input,
             const typename V::Element* from, int64_t n) {
      typename V::Input;
      // Outputs in a vector; inputs that one accumulate takes; rows and vectors of the largest block.
      { V::lanes + V::depth + V::rows + V::vectors } -> std::convertible_to<int>;
      { V::start(bias) } -> std::same_as<typename V::Sum>;
      { V::operand(input) } -> std::same_as<typename V::Operand>;
      { V::weight(from) } -> std::same_as<typename V::Weight>;
      { V::accumulate(sum, operand, weight) } -> std::same_as<typename V::Sum>;
      (typename V::Epilogue(arguments, n)).finish(n, sum);  // of one vector of outputs, for a row
    };

template <PointwiseVector V, int kRows, int kVectors>
void pointwise_block(const PointwiseArguments& a, int64_t row, int64_t vector) {
  using Element = typename V::Element;
  constexpr int kStep = V::lanes * V::depth;
  const int64_t steps = (a.inputs + V::depth - 1) / V::depth, panel = a.taps * steps * kStep;
  const Element* weight = static_cast<const Element*>(a.weight) + vector * panel;
  typename V::Sum sum[kRows][kVectors];
  PIXELTIER_UNROLL
  for (int v = 0; v < kVectors; v++) {
    const auto start = V::start(a.bias + (vector + v) * V::lanes);
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) sum[r][v] = start;
  }
  const auto* first = static_cast<const typename V::Input*>(a.rows) + row * a.row_stride;
  for (int64_t t = 0; t < a.taps; t++, first += a.tap_stride) {
    RowPointers<kRows> x(first, a.row_stride * sizeof(Element));
    for (int64_t i = 0; i < steps; i++, weight += kStep, x.advance(V::depth * sizeof(Element))) {
      typename V::Weight w[kVectors];
      PIXELTIER_UNROLL
      for (int v = 0; v < kVectors; v++) w[v] = V::weight(weight + v * panel);
      PIXELTIER_UNROLL
      for (int r = 0; r < kRows; r++) {
        const auto value = V::operand(x.at(r));
        PIXELTIER_UNROLL
        for (int v = 0; v < kVectors; v++) sum[r][v] = V::accumulate(sum[r][v], value, w[v]);
      }
    }
  }
  PIXELTIER_UNROLL
  for (int v = 0; v < kVectors; v++) {
    const typename V::Epilogue epilogue(a, vector + v);
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) epilogue.finish(row + r, sum[r][v]);
  }
}

}  // namespace pixeltier
