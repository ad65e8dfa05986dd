// Inverted residuals in int8 on AVX-512 VNNI: 14 x 2 accumulators of 16 lanes.
#include <immintrin.h>

#include <cstring>

#include "mbconv_blocks.h"
#include "mbconv_int8.h"

namespace pixeltier {
namespace {

struct Avx512Vnni {
  using Ints = __m512i;
  using Floats = __m512;
  using Operand = __m512i;
  using Weight = __m512i;
  static constexpr int lanes = 16, rows = 14, vectors = 2, tile = 7;

  static Ints zeros() { return _mm512_setzero_si512(); }
  static Floats floats(const float* p) { return _mm512_loadu_ps(p); }
  static Floats fill(float value) { return _mm512_set1_ps(value); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats clamp(Floats v, float low, float high) {
    return _mm512_min_ps(fill(high), _mm512_max_ps(fill(low), v));
  }
  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
  static Floats to_float(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats bytes(const uint8_t* p) {
    return to_float(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_bytes(uint8_t* p, Floats v) {
    const __m512i rounded = _mm512_max_epi32(_mm512_cvtps_epi32(v), zeros());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(rounded));
  }

  static Operand broadcast(const void* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Operand quads(const uint8_t* p) {
    // Four channels of four cells to each 128 bits, then transposed there.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i transpose = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, _mm512_loadu_si512(p)), transpose);
  }
  static Weight weight(const int8_t* p) { return _mm512_loadu_si512(p); }
  // Not the intrinsic: around it, GCC 12 copies every accumulator to and fro.
  static Ints accumulate(Ints sum, Operand x, Weight w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
};

}  // namespace

const MbKernel avx512_vnni_mbconv_int8 =
    make_mbconv_kernel<MbInt8<Avx512Vnni>>(Isa::avx512_vnni, MbElement::int8);

}  // namespace pixeltier
