// fp32 rows on AVX-512: 14 x 2 accumulators of 16 lanes, the inputs broadcast from memory.
#include <immintrin.h>

#include "micro_kernel.h"
#include "row_kernels.h"

namespace pixeltier {
namespace {

struct Avx512Float {
  using Element = float;
  using Sum = __m512;
  using Operand = __m512;
  using Weight = __m512;
  static constexpr int lanes = 16, vectors = 2, depth = 1, rows = 14;

  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum floats(const float* p) { return _mm512_loadu_ps(p); }
  static Sum load(const Element* p) { return _mm512_loadu_ps(p); }
  static Sum load(const Element* p, int64_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store(Element* p, Sum v) { _mm512_storeu_ps(p, v); }
  static void store(Element* p, Sum v, int64_t n) { _mm512_mask_storeu_ps(p, mask(n), v); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Sum activate(Sum v, Sum slope) {
    return _mm512_mask_mul_ps(v, _mm512_cmp_ps_mask(v, zero(), _CMP_NGT_UQ), v, slope);
  }

  static Weight weight(const Element* p) { return _mm512_loadu_ps(p); }
  static Operand operand(const Element* p) { return _mm512_set1_ps(*p); }
  static Operand operand_tail(const Element* p) { return operand(p); }
  static void accumulate(Sum& sum, Operand x, Weight w) { sum = _mm512_fmadd_ps(x, w, sum); }

 private:
  static __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
};

}  // namespace

const RowKernel avx512_f32 = make_row_kernel<Avx512Float>(Isa::avx512, Element::f32);

}  // namespace pixeltier
