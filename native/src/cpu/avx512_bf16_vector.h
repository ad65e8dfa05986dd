// The vector type of processors with AVX-512's bf16 instructions; include it only where they are enabled.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "avx512_arithmetic.h"
#include "pixeltier/row_kernel.h"

namespace pixeltier {
namespace {

struct NativeBFloat16 : Avx512Arithmetic {
  using Element = BFloat16;
  using Sum = __m512;
  using Operand = __m512bh;
  using Weight = __m512bh;
  static constexpr int lanes = 16, vectors = 2, depth = 2, rows = 14;

  static void claim(Sum& sum) { __asm__ volatile("" : "+v"(sum)); }
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum floats(const float* p) { return _mm512_loadu_ps(p); }
  static void keep(float* p, Sum v) { _mm512_storeu_ps(p, v); }
  static Sum load(const Element* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Sum load(const Element* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(mask(n), p)); }
  static void store(Element* p, Sum v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
  static void store(Element* p, Sum v, int64_t n) { _mm256_mask_storeu_epi16(p, mask(n), narrow(v)); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Sum subtract(Sum a, Sum b) { return _mm512_sub_ps(a, b); }
  static Sum activate(Sum v, Sum slope) {
    return _mm512_mask_mul_ps(v, _mm512_cmp_ps_mask(v, zero(), _CMP_NGT_UQ), v, slope);
  }

  static Weight weight(const Element* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Operand operand(const Element* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Operand operand_tail(const Element* p) { return (__m512bh)_mm512_set1_epi32(p->bits); }
  static void accumulate(Sum& sum, Operand x, Weight w) { sum = _mm512_dpbf16_ps(sum, x, w); }

 private:
  static __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Sum widen(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
  }
  static __m256i narrow(Sum v) { return (__m256i)_mm512_cvtneps_pbh(v); }
};

}  // namespace
}  // namespace pixeltier
