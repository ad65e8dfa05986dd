// fp32 rows on AVX2 with FMA: 6 x 2 accumulators of 8 lanes.
#include <immintrin.h>

#include "micro_kernel.h"
#include "row_kernels.h"

namespace pixeltier {
namespace {

struct Avx2Float {
  using Element = float;
  using Sum = __m256;
  using Operand = __m256;
  using Weight = __m256;
  static constexpr int lanes = 8, vectors = 2, depth = 1, rows = 6;

  static Sum zero() { return _mm256_setzero_ps(); }
  static Sum floats(const float* p) { return _mm256_loadu_ps(p); }
  static Sum load(const Element* p) { return _mm256_loadu_ps(p); }
  static Sum load(const Element* p, int64_t n) { return _mm256_maskload_ps(p, mask(n)); }
  static void store(Element* p, Sum v) { _mm256_storeu_ps(p, v); }
  static void store(Element* p, Sum v, int64_t n) { _mm256_maskstore_ps(p, mask(n), v); }
  static Sum add(Sum a, Sum b) { return _mm256_add_ps(a, b); }
  static Sum activate(Sum v, Sum slope) {
    return _mm256_blendv_ps(_mm256_mul_ps(v, slope), v, _mm256_cmp_ps(v, zero(), _CMP_GT_OQ));
  }

  static Weight weight(const Element* p) { return _mm256_loadu_ps(p); }
  static Operand operand(const Element* p) { return _mm256_broadcast_ss(p); }
  static Operand operand_tail(const Element* p) { return operand(p); }
  static void accumulate(Sum& sum, Operand x, Weight w) { sum = _mm256_fmadd_ps(x, w, sum); }

 private:
  static __m256i mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace

const RowKernel avx2_f32 = make_row_kernel<Avx2Float>(Isa::avx2, Element::f32);

}  // namespace pixeltier
