// Inverted residuals in fp32, over what an instruction set offers: the concept FloatVector.
// The order of additions of a depthwise convolution is bias, line, column.
#pragma once

#include "mbconv_pointwise.h"

namespace pixeltier {

template <class B>
concept FloatVector = requires(const typename B::Vector& v, const float* from, float* to) {
  // Floats in a vector; rows and vectors of the largest block; cells of a line handled at a time.
  { B::lanes + B::rows + B::vectors + B::tile } -> std::convertible_to<int>;
  { B::load(from) } -> std::same_as<typename B::Vector>;
  { B::broadcast(from) } -> std::same_as<typename B::Vector>;
  { B::multiply_add(v, v, v) } -> std::same_as<typename B::Vector>;  // sum, x, weight
  { B::add(v, v) } -> std::same_as<typename B::Vector>;
  { B::clamp(v, 0.0f, 6.0f) } -> std::same_as<typename B::Vector>;
  B::store(to, v);
};

template <FloatVector B>
struct MbF32 {
  using Element = float;
  using Input = float;
  using Sum = typename B::Vector;
  using Operand = Sum;
  using Weight = Sum;
  static constexpr int lanes = B::lanes, rows = B::rows, vectors = B::vectors, tile = B::tile, depth = 1;

  static Sum start(const float* bias) { return B::load(bias); }
  static Operand operand(const void* p) { return B::broadcast(static_cast<const float*>(p)); }
  static Weight weight(const float* p) { return B::load(p); }
  static Sum accumulate(Sum sum, Operand x, Weight w) { return B::multiply_add(sum, x, w); }

  struct Epilogue {
    const PointwiseArguments& a;
    float* out;
    const float* residual;

    Epilogue(const PointwiseArguments& a, int64_t vector)
        : a(a),
          out(static_cast<float*>(a.out) + vector * a.vector_stride),
          residual(a.residual ? static_cast<const float*>(a.residual) + vector * lanes : nullptr) {}

    void finish(int64_t row, Sum value) const {
      if (residual) value = B::add(value, B::load(residual + row * a.residual_stride));
      B::store(out + row * a.out_stride, B::clamp(value, a.low, a.high));
    }
  };

  template <int kRows, int kVectors>
  static void pointwise(const PointwiseArguments& a, int64_t row, int64_t vector) {
    pointwise_block<MbF32, kRows, kVectors>(a, row, vector);
  }

  // kCells outputs of a line, from output x on.
  template <int kKernel, int kStride, int kCells>
  static void depthwise(const DepthwiseArguments& a, int64_t x) {
    Sum sum[kCells];
    PIXELTIER_UNROLL
    for (int c = 0; c < kCells; c++) sum[c] = B::load(a.bias);
    for (int ky = 0; ky < kKernel; ky++) {
      if (!a.lines[ky]) continue;
      const float* line = static_cast<const float*>(a.lines[ky]) + x * kStride * lanes;
      const float* weight = static_cast<const float*>(a.weight) + ky * kKernel * lanes;
      Weight w[kKernel];
      PIXELTIER_UNROLL
      for (int kx = 0; kx < kKernel; kx++) w[kx] = B::load(weight + kx * lanes);
      PIXELTIER_UNROLL
      for (int i = 0; i < (kCells - 1) * kStride + kKernel; i++) {
        const Operand value = B::load(line + i * lanes);
        PIXELTIER_UNROLL
        for (int kx = 0; kx < kKernel; kx++)
          if (i >= kx && (i - kx) % kStride == 0 && (i - kx) / kStride < kCells)
            sum[(i - kx) / kStride] = accumulate(sum[(i - kx) / kStride], value, w[kx]);
      }
    }
    float* out = static_cast<float*>(a.out) + x * a.out_stride;
    PIXELTIER_UNROLL
    for (int c = 0; c < kCells; c++) B::store(out + c * a.out_stride, B::clamp(sum[c], a.low, a.high));
  }
};

}  // namespace pixeltier
