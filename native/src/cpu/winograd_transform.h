// The linear transforms of Winograd's F(2x2, 3x3) and F(4x4, 3x3), over the vector types of micro_kernel.h.
//
// patch(load, d): B^T x B of the input patch, whose value k is load(k); products(load, y): A^T m A of the
// products. The weights' transform is ops.winograd_weight.
#pragma once

#include "micro_kernel.h"

namespace pixeltier {
namespace {

struct Winograd2 {
  static constexpr int kSide = 4, kPoints = 16, kOutputs = 4;

  template <class V, class Load>
  static void patch(Load load, typename V::Sum (&d)[kPoints]) {
    PIXELTIER_UNROLL
    for (int k = 0; k < kPoints; k++) d[k] = load(k);
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) inputs<V>(d + i, kSide);
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) inputs<V>(d + kSide * i, 1);
  }

  template <class V, class Load>
  static void products(Load load, typename V::Sum (&y)[kOutputs]) {
    typename V::Sum s[2][kSide];
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) {
      const auto a = load(i), b = load(kSide + i), c = load(2 * kSide + i), e = load(3 * kSide + i);
      s[0][i] = V::add(V::add(a, b), c);
      s[1][i] = V::subtract(V::subtract(b, c), e);
    }
    PIXELTIER_UNROLL
    for (int i = 0; i < 2; i++) {
      y[2 * i] = V::add(V::add(s[i][0], s[i][1]), s[i][2]);
      y[2 * i + 1] = V::subtract(V::subtract(s[i][1], s[i][2]), s[i][3]);
    }
  }

 private:
  template <class V>
  static void inputs(typename V::Sum* d, int step) {
    const auto a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
    d[0] = V::subtract(a, c);
    d[step] = V::add(b, c);
    d[2 * step] = V::subtract(c, b);
    d[3 * step] = V::subtract(b, e);
  }
};

// Interpolation at 0, 1, -1, 2, -2 and infinity, as in the paper.
struct Winograd4 {
  static constexpr int kSide = 6, kPoints = 36, kOutputs = 16;

  template <class V, class Load>
  static void patch(Load load, typename V::Sum (&d)[kPoints]) {
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) {
      PIXELTIER_UNROLL
      for (int k = 0; k < kSide; k++) d[kSide * k + i] = load(kSide * k + i);
      inputs<V>(d + i, kSide);
    }
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) inputs<V>(d + kSide * i, 1);
  }

  template <class V, class Load>
  static void products(Load load, typename V::Sum (&y)[kOutputs]) {
    typename V::Sum s[4][kSide];
    PIXELTIER_UNROLL
    for (int i = 0; i < kSide; i++) {
      typename V::Sum m[kSide], column[4];
      PIXELTIER_UNROLL
      for (int k = 0; k < kSide; k++) m[k] = load(kSide * k + i);
      outputs<V>(m, column);
      PIXELTIER_UNROLL
      for (int k = 0; k < 4; k++) s[k][i] = column[k];
    }
    PIXELTIER_UNROLL
    for (int k = 0; k < 4; k++) outputs<V>(s[k], y + 4 * k);
  }

 private:
  // 4 0 -5 0 1 0 | 0 -4 -4 1 1 0 | 0 4 -4 -1 1 0 | 0 -2 -1 2 1 0 | 0 2 -1 -2 1 0 | 0 4 0 -5 0 1
  template <class V>
  static void inputs(typename V::Sum* d, int step) {
    const auto two = V::constant(2), four = V::constant(4), minus_four = V::constant(-4),
               minus_five = V::constant(-5);
    const auto d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
               d5 = d[5 * step];
    const auto even = V::multiply_add(minus_four, d2, d4), odd = V::multiply_add(minus_four, d1, d3);
    const auto near = V::subtract(d4, d2), far = V::multiply(two, V::subtract(d3, d1));
    d[0] = V::multiply_add(four, d0, V::multiply_add(minus_five, d2, d4));
    d[step] = V::add(even, odd);
    d[2 * step] = V::subtract(even, odd);
    d[3 * step] = V::add(near, far);
    d[4 * step] = V::subtract(near, far);
    d[5 * step] = V::multiply_add(four, d1, V::multiply_add(minus_five, d3, d5));
  }

  // 1 1 1 1 1 0 | 0 1 -1 2 -2 0 | 0 1 1 4 4 0 | 0 1 -1 8 -8 1
  template <class V>
  static void outputs(const typename V::Sum* m, typename V::Sum* y) {
    const auto s1 = V::add(m[1], m[2]), d1 = V::subtract(m[1], m[2]);
    const auto s2 = V::add(m[3], m[4]), d2 = V::subtract(m[3], m[4]);
    y[0] = V::add(V::add(m[0], s1), s2);
    y[1] = V::multiply_add(V::constant(2), d2, d1);
    y[2] = V::multiply_add(V::constant(4), s2, s1);
    y[3] = V::add(V::multiply_add(V::constant(8), d2, d1), m[5]);
  }
};

}  // namespace
}  // namespace pixeltier
