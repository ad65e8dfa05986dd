// Inverted residuals in int8, over what an instruction set offers: the concept ByteVector.
#pragma once

#include "mbconv_pointwise.h"

namespace pixeltier {

template <class B>
concept ByteVector =
    requires(const typename B::Ints& ints, const typename B::Floats& v, const typename B::Operand& operand,
             const typename B::Weight& weight, const float* from, float* to, const uint8_t* bytes,
             uint8_t* to_bytes, const void* input, const int8_t* weights) {
      // Sums in a vector; rows and vectors of the largest block; cells of a line handled at a time.
      { B::lanes + B::rows + B::vectors + B::tile } -> std::convertible_to<int>;
      { B::zeros() } -> std::same_as<typename B::Ints>;
      { B::floats(from) } -> std::same_as<typename B::Floats>;
      { B::fill(1.0f) } -> std::same_as<typename B::Floats>;
      { B::bytes(bytes) } -> std::same_as<typename B::Floats>;
      { B::to_float(ints) } -> std::same_as<typename B::Floats>;
      { B::multiply(v, v) } -> std::same_as<typename B::Floats>;
      { B::add(v, v) } -> std::same_as<typename B::Floats>;
      { B::clamp(v, 0.0f, 6.0f) } -> std::same_as<typename B::Floats>;
      B::store(to, v);
      B::store_bytes(to_bytes, v);                                   // to nearest even, clamped to 0 to 255
      { B::broadcast(input) } -> std::same_as<typename B::Operand>;  // the same four bytes for all lanes
      { B::quads(bytes) } -> std::same_as<typename B::Operand>;      // lane l: byte l of each of four cells
      { B::weight(weights) } -> std::same_as<typename B::Weight>;
      {
        B::accumulate(ints, operand, weight)
      } -> std::same_as<typename B::Ints>;  // four products for each lane
    };

template <ByteVector B>
struct MbInt8 {
  using Element = int8_t;
  using Input = uint8_t;
  using Sum = typename B::Ints;
  using Operand = typename B::Operand;
  using Weight = typename B::Weight;
  using Floats = typename B::Floats;
  static constexpr int lanes = B::lanes, rows = B::rows, vectors = B::vectors, tile = B::tile,
                       depth = kInt8Depth;

  static Sum start(const float*) { return B::zeros(); }
  static Operand operand(const void* p) { return B::broadcast(p); }
  static Weight weight(const int8_t* p) { return B::weight(p); }
  static Sum accumulate(Sum sum, Operand x, Weight w) { return B::accumulate(sum, x, w); }

  struct Epilogue {
    const PointwiseArguments& a;
    int64_t vector;
    Floats scale, bias;

    Epilogue(const PointwiseArguments& a, int64_t vector)
        : a(a),
          vector(vector),
          scale(B::floats(a.scale + vector * lanes)),
          bias(B::floats(a.bias + vector * lanes)) {}

    void finish(int64_t row, Sum sum) const {
      Floats value = B::add(B::multiply(B::to_float(sum), scale), bias);
      const int64_t to = row * a.out_stride + vector * a.vector_stride;
      if (a.to_float) {
        B::store(static_cast<float*>(a.out) + to, B::clamp(value, a.low, a.high));
        return;
      }
      if (a.residual) {
        const auto* from = static_cast<const uint8_t*>(a.residual) + row * a.residual_stride + vector * lanes;
        value = B::add(value, B::multiply(B::bytes(from), B::fill(a.residual_factor)));
      }
      B::store_bytes(static_cast<uint8_t*>(a.out) + to, value);
    }
  };

  template <int kRows, int kVectors>
  static void pointwise(const PointwiseArguments& a, int64_t row, int64_t vector) {
    pointwise_block<MbInt8, kRows, kVectors>(a, row, vector);
  }

  // kCells outputs of a line, from output x on. The kernel's columns are taken in fours: a group that begins
  // at cell i of the line serves each output of which one of the kernel's groups begins there.
  template <int kKernel, int kStride, int kCells>
  static void depthwise(const DepthwiseArguments& a, int64_t x) {
    constexpr int kGroups = (kKernel + 3) / 4;
    Sum sum[kCells];
    PIXELTIER_UNROLL
    for (int c = 0; c < kCells; c++) sum[c] = B::zeros();
    for (int ky = 0; ky < kKernel; ky++) {
      if (!a.lines[ky]) continue;
      const uint8_t* line = static_cast<const uint8_t*>(a.lines[ky]) + x * kStride * lanes;
      const int8_t* weight = static_cast<const int8_t*>(a.weight) + ky * kGroups * 4 * lanes;
      Weight w[kGroups];
      PIXELTIER_UNROLL
      for (int g = 0; g < kGroups; g++) w[g] = B::weight(weight + g * 4 * lanes);
      PIXELTIER_UNROLL
      for (int i = 0; i <= (kCells - 1) * kStride + 4 * (kGroups - 1); i++) {
        if (!used(i, kStride, kGroups, kCells)) continue;
        const Operand value = B::quads(line + i * lanes);
        PIXELTIER_UNROLL
        for (int g = 0; g < kGroups; g++)
          if (serves(i - 4 * g, kStride, kCells))
            sum[(i - 4 * g) / kStride] = accumulate(sum[(i - 4 * g) / kStride], value, w[g]);
      }
    }
    const Floats scale = B::floats(a.scale), bias = B::floats(a.bias);
    uint8_t* out = static_cast<uint8_t*>(a.out) + x * a.out_stride;
    PIXELTIER_UNROLL
    for (int c = 0; c < kCells; c++)
      B::store_bytes(out + c * a.out_stride, B::add(B::multiply(B::to_float(sum[c]), scale), bias));
  }

 private:
  static constexpr bool serves(int i, int stride, int cells) {
    return i >= 0 && i % stride == 0 && i / stride < cells;
  }
  static constexpr bool used(int i, int stride, int groups, int cells) {
    for (int g = 0; g < groups; g++)
      if (serves(i - 4 * g, stride, cells)) return true;
    return false;
  }
};

}  // namespace pixeltier
