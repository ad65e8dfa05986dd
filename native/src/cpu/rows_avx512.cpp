// Rows on AVX-512: 14 x 2 accumulators of 16 lanes for fp32, the inputs broadcast from memory; 12 x 2 for
// bf16 on processors without instructions for it, widened to fp32 on the way in.
#include <immintrin.h>

#include <cstring>

#include "avx512_arithmetic.h"
#include "row_kernels.h"
#include "winograd_kernel.h"

namespace pixeltier {
namespace {

struct Avx512Float : Avx512Arithmetic {
  using Element = float;
  using Sum = __m512;
  using Operand = __m512;
  using Weight = __m512;
  static constexpr int lanes = 16, vectors = 2, depth = 1, rows = 14;

  static void claim(Sum& sum) { __asm__ volatile("" : "+v"(sum)); }
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum floats(const float* p) { return _mm512_loadu_ps(p); }
  static void keep(float* p, Sum v) { _mm512_storeu_ps(p, v); }
  static Sum load(const Element* p) { return _mm512_loadu_ps(p); }
  static Sum load(const Element* p, int64_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store(Element* p, Sum v) { _mm512_storeu_ps(p, v); }
  static void store(Element* p, Sum v, int64_t n) { _mm512_mask_storeu_ps(p, mask(n), v); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Sum subtract(Sum a, Sum b) { return _mm512_sub_ps(a, b); }
  static Sum activate(Sum v, Sum slope) {
    return _mm512_mask_mul_ps(v, _mm512_cmp_ps_mask(v, zero(), _CMP_NGT_UQ), v, slope);
  }

  static Weight weight(const Element* p) { return _mm512_loadu_ps(p); }
  static Operand operand(const Element* p) { return _mm512_set1_ps(*p); }
  static Operand operand_tail(const Element* p) { return operand(p); }
  static void accumulate(Sum& sum, Operand x, Weight w) { sum = _mm512_fmadd_ps(x, w, sum); }

  static __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};

struct Avx512BFloat16 : Avx512Float {
  using Element = BFloat16;
  struct Pair {
    __m512 even, odd;
  };
  using Operand = Pair;
  using Weight = Pair;
  static constexpr int depth = 2, rows = 12;

  static Sum load(const Element* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Sum load(const Element* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(mask(n), p)); }
  static void store(Element* p, Sum v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
  static void store(Element* p, Sum v, int64_t n) { _mm256_mask_storeu_epi16(p, mask(n), narrow(v)); }

  static Weight weight(const Element* p) { return split(_mm512_loadu_si512(p)); }
  static Operand operand(const Element* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return split(_mm512_set1_epi32(pair));
  }
  static Operand operand_tail(const Element* p) { return split(_mm512_set1_epi32(p->bits)); }
  static void accumulate(Sum& sum, const Operand& x, const Weight& w) {
    sum = _mm512_fmadd_ps(x.even, w.even, sum);
    sum = _mm512_fmadd_ps(x.odd, w.odd, sum);
  }

 private:
  static Pair split(__m512i pairs) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
  static Sum widen(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
  }
  // Round to nearest even; a NaN stays one.
  static __m256i narrow(Sum v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up =
        _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc0)));
  }
};

}  // namespace

const RowKernel avx512_convert_bf16 = make_row_kernel<Avx512BFloat16>(Isa::avx512, Element::bf16);
const RowKernel avx512_f32 = make_row_kernel<Avx512Float>(Isa::avx512, Element::f32);

}  // namespace pixeltier
