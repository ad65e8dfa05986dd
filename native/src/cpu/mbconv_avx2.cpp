// Inverted residuals on AVX2 with FMA: 6 x 2 accumulators of 8 lanes in fp32, 4 x 2 in int8.
#include <immintrin.h>

#include "avx2_int8.h"
#include "mbconv_blocks.h"
#include "mbconv_f32.h"
#include "mbconv_int8.h"

namespace pixeltier {
namespace {

struct Avx2 {
  using Vector = __m256;
  static constexpr int lanes = 8, rows = 6, vectors = 2, tile = 7;

  static Vector load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  static Vector broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector multiply_add(Vector sum, Vector x, Vector w) { return _mm256_fmadd_ps(x, w, sum); }
  // The second operand is what is returned where one is NaN.
  static Vector clamp(Vector v, float low, float high) {
    return _mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), v));
  }
};

// Without an instruction for four products, bytes are widened to words: the even ones and the odd ones.
struct Avx2Words : Avx2Int8 {
  struct Words {
    __m256i even, odd;
  };
  using Operand = Words;
  using Weight = Words;
  static constexpr int rows = 4;

  static Operand broadcast(const void* p) { return unsigned_words(four_bytes(p)); }
  static Operand quads(const uint8_t* p) { return unsigned_words(four_cells(p)); }
  static Weight weight(const int8_t* p) {
    const __m256i bytes = four_weights(p);
    return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
  }
  static Ints accumulate(Ints sum, const Operand& x, const Weight& w) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x.even, w.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x.odd, w.odd));
  }

 private:
  static Words unsigned_words(__m256i bytes) {
    return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(bytes, 8)};
  }
};

}  // namespace

const MbKernel avx2_mbconv_int8 = make_mbconv_kernel<MbInt8<Avx2Words>>(Isa::avx2, MbElement::int8);
const MbKernel avx2_mbconv_f32 = make_mbconv_kernel<MbF32<Avx2>>(Isa::avx2, MbElement::f32);

}  // namespace pixeltier
