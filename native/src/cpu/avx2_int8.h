// What the int8 kernels of 256-bit instruction sets share; how they multiply is theirs.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace pixeltier {
namespace {

struct Avx2Int8 {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int lanes = 8, vectors = 2, tile = 7;

  static Ints zeros() { return _mm256_setzero_si256(); }
  static Floats floats(const float* p) { return _mm256_loadu_ps(p); }
  static Floats fill(float value) { return _mm256_set1_ps(value); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats clamp(Floats v, float low, float high) {
    return _mm256_min_ps(fill(high), _mm256_max_ps(fill(low), v));
  }
  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
  static Floats to_float(Ints v) { return _mm256_cvtepi32_ps(v); }
  static Floats bytes(const uint8_t* p) {
    return to_float(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_bytes(uint8_t* p, Floats v) {
    const __m256i rounded = _mm256_cvtps_epi32(v);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }

  static __m256i four_bytes(const void* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static __m256i four_cells(const uint8_t* p) {
    // Four channels of four cells to each 128 bits, then transposed there.
    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i transpose =
        _mm256_broadcastsi128_si256(_mm_setr_epi32(0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703));
    const __m256i cells = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(cells, order), transpose);
  }
  static __m256i four_weights(const int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
};

}  // namespace
}  // namespace pixeltier
