// Rows on AVX2 with FMA: 6 x 2 accumulators of 8 lanes for fp32; 4 x 2 for bf16, widened to fp32 on the way
// in.
#include <immintrin.h>

#include <cstring>

#include "row_kernels.h"
#include "winograd_kernel.h"

namespace pixeltier {
namespace {

struct Avx2Float {
  using Element = float;
  using Sum = __m256;
  using Operand = __m256;
  using Weight = __m256;
  static constexpr int lanes = 8, vectors = 2, depth = 1, rows = 6;

  static void claim(Sum& sum) { __asm__ volatile("" : "+x"(sum)); }
  static Sum zero() { return _mm256_setzero_ps(); }
  static Sum floats(const float* p) { return _mm256_loadu_ps(p); }
  static void keep(float* p, Sum v) { _mm256_storeu_ps(p, v); }
  static Sum load(const Element* p) { return _mm256_loadu_ps(p); }
  static Sum load(const Element* p, int64_t n) { return _mm256_maskload_ps(p, mask(n)); }
  static void store(Element* p, Sum v) { _mm256_storeu_ps(p, v); }
  static void store(Element* p, Sum v, int64_t n) { _mm256_maskstore_ps(p, mask(n), v); }
  static Sum add(Sum a, Sum b) { return _mm256_add_ps(a, b); }
  static Sum subtract(Sum a, Sum b) { return _mm256_sub_ps(a, b); }
  static Sum activate(Sum v, Sum slope) {
    return _mm256_blendv_ps(_mm256_mul_ps(v, slope), v, _mm256_cmp_ps(v, zero(), _CMP_GT_OQ));
  }

  static Sum constant(float value) { return _mm256_set1_ps(value); }
  static Sum multiply(Sum a, Sum b) { return _mm256_mul_ps(a, b); }
  static Sum multiply_add(Sum a, Sum b, Sum c) { return _mm256_fmadd_ps(a, b, c); }
  static Sum divide(Sum a, Sum b) { return _mm256_div_ps(a, b); }
  static Sum at_most(Sum limit, Sum v) { return _mm256_min_ps(limit, v); }
  static Sum at_least(Sum limit, Sum v) { return _mm256_max_ps(limit, v); }
  static Sum nearest(Sum v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Sum scale(Sum v, Sum exponent) {
    const __m256i below = _mm256_sub_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(below, 23));
    return _mm256_add_ps(_mm256_castsi256_ps(half), _mm256_castsi256_ps(half));
  }

  static Weight weight(const Element* p) { return _mm256_loadu_ps(p); }
  static Operand operand(const Element* p) { return _mm256_broadcast_ss(p); }
  static Operand operand_tail(const Element* p) { return operand(p); }
  static void accumulate(Sum& sum, Operand x, Weight w) { sum = _mm256_fmadd_ps(x, w, sum); }

  static __m256i mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

struct Avx2BFloat16 : Avx2Float {
  using Element = BFloat16;
  struct Pair {
    __m256 even, odd;
  };
  using Operand = Pair;
  using Weight = Pair;
  static constexpr int depth = 2, rows = 4;

  static Sum load(const Element* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Sum load(const Element* p, int64_t n) {
    alignas(16) BFloat16 all[lanes] = {};
    std::memcpy(all, p, n * sizeof(BFloat16));
    return load(all);
  }
  static void store(Element* p, Sum v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v)); }
  static void store(Element* p, Sum v, int64_t n) {
    alignas(16) BFloat16 all[lanes];
    store(all, v);
    std::memcpy(p, all, n * sizeof(BFloat16));
  }

  static Weight weight(const Element* p) {
    return split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Operand operand(const Element* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return split(_mm256_set1_epi32(pair));
  }
  static Operand operand_tail(const Element* p) { return split(_mm256_set1_epi32(p->bits)); }
  static void accumulate(Sum& sum, const Operand& x, const Weight& w) {
    sum = _mm256_fmadd_ps(x.even, w.even, sum);
    sum = _mm256_fmadd_ps(x.odd, w.odd, sum);
  }

 private:
  static Pair split(__m256i pairs) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
  static Sum widen(__m128i values) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16));
  }
  // Round to nearest even; a NaN stays one.
  static __m128i narrow(Sum v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    up = _mm256_srli_epi32(up, 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    up = _mm256_blendv_epi8(up, _mm256_set1_epi32(0x7fc0), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
  }
};

}  // namespace

const RowKernel avx2_bf16 = make_row_kernel<Avx2BFloat16>(Isa::avx2, Element::bf16);
const RowKernel avx2_f32 = make_row_kernel<Avx2Float>(Isa::avx2, Element::f32);

}  // namespace pixeltier
