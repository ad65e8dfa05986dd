// Arithmetic on vectors of sixteen floats, for smooth_activation.h.
#pragma once

#include <immintrin.h>

namespace pixeltier {
namespace {

struct Avx512Arithmetic {
  static __m512 constant(float value) { return _mm512_set1_ps(value); }
  static __m512 multiply(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static __m512 multiply_add(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
  static __m512 divide(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
  static __m512 at_most(__m512 limit, __m512 v) { return _mm512_min_ps(limit, v); }
  static __m512 at_least(__m512 limit, __m512 v) { return _mm512_max_ps(limit, v); }
  static __m512 nearest(__m512 v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT); }
  static __m512 scale(__m512 v, __m512 exponent) { return _mm512_scalef_ps(v, exponent); }
};

}  // namespace
}  // namespace pixeltier
