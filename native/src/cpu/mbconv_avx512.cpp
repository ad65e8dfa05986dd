// Inverted residuals in fp32 on AVX-512: 14 x 2 accumulators of 16 lanes.
#include <immintrin.h>

#include "mbconv_blocks.h"
#include "mbconv_f32.h"

namespace pixeltier {
namespace {

struct Avx512 {
  using Vector = __m512;
  static constexpr int lanes = 16, rows = 14, vectors = 2, tile = 7;

  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  static Vector broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector multiply_add(Vector sum, Vector x, Vector w) { return _mm512_fmadd_ps(x, w, sum); }
  // The second operand is what is returned where one is NaN.
  static Vector clamp(Vector v, float low, float high) {
    return _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), v));
  }
};

}  // namespace

const MbKernel avx512_mbconv_f32 = make_mbconv_kernel<MbF32<Avx512>>(Isa::avx512, MbElement::f32);

}  // namespace pixeltier
