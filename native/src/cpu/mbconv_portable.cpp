// Inverted residuals with the compiler's own vectors: SSE2 on x86-64, NEON on Arm.
#include <cmath>
#include <cstring>

#include "mbconv_blocks.h"
#include "mbconv_f32.h"
#include "mbconv_int8.h"

namespace pixeltier {
namespace {

typedef float Float4 __attribute__((vector_size(16)));

struct Portable {
  using Vector = Float4;
  static constexpr int lanes = 4, rows = 6, vectors = 2, tile = 7;

  static Vector load(const float* p) {
    Float4 v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }
  static Vector broadcast(const float* p) { return Float4{*p, *p, *p, *p}; }
  static Vector add(Vector a, Vector b) { return a + b; }
  static Vector multiply_add(Vector sum, Vector x, Vector w) { return sum + x * w; }
  // A NaN compares false and stays.
  static Vector clamp(Vector v, float low, float high) {
    const Float4 least = Float4{} + low, most = Float4{} + high;
    const Float4 raised = v < least ? least : v;
    return raised > most ? most : raised;
  }
};

typedef int32_t Int4 __attribute__((vector_size(16)));

// A lane has four bytes, of which one at a time is cut out.
struct PortableInt8 {
  using Ints = Int4;
  using Floats = Float4;
  using Operand = Int4;  // unsigned bytes
  using Weight = Int4;   // signed bytes
  static constexpr int lanes = 4, rows = 4, vectors = 2, tile = 7;

  static Ints zeros() { return Int4{}; }
  static Floats floats(const float* p) { return Portable::load(p); }
  static Floats fill(float value) { return Float4{value, value, value, value}; }
  static Floats multiply(Floats a, Floats b) { return a * b; }
  static Floats add(Floats a, Floats b) { return a + b; }
  static Floats clamp(Floats v, float low, float high) { return Portable::clamp(v, low, high); }
  static void store(float* p, Floats v) { Portable::store(p, v); }
  static Floats to_float(Ints v) { return __builtin_convertvector(v, Float4); }
  static Floats bytes(const uint8_t* p) {
    return Float4{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
                  static_cast<float>(p[3])};
  }
  static void store_bytes(uint8_t* p, Floats v) {
    const Floats within = clamp(v, 0, 255);
    // Adding 1.5 * 2^23 leaves no place for a fraction: the sum is rounded to nearest even.
    const Floats rounded = (within + 12582912.0f) - 12582912.0f;
    for (int l = 0; l < lanes; l++) p[l] = static_cast<uint8_t>(rounded[l]);
  }

  static Operand broadcast(const void* p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return Int4{four, four, four, four};
  }
  static Operand quads(const uint8_t* p) {
    alignas(16) uint8_t cells[4 * lanes];
    for (int l = 0; l < lanes; l++)
      for (int cell = 0; cell < 4; cell++) cells[4 * l + cell] = p[cell * lanes + l];
    Int4 v;
    std::memcpy(&v, cells, sizeof v);
    return v;
  }
  static Weight weight(const int8_t* p) {
    Int4 v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Ints accumulate(Ints sum, Operand x, Weight w) {
    sum += (x & 0xff) * ((w << 24) >> 24);
    sum += ((x >> 8) & 0xff) * ((w << 16) >> 24);
    sum += ((x >> 16) & 0xff) * ((w << 8) >> 24);
    return sum + ((x >> 24) & 0xff) * (w >> 24);
  }
};

}  // namespace

const MbKernel portable_mbconv_int8 =
    make_mbconv_kernel<MbInt8<PortableInt8>>(Isa::portable, MbElement::int8);
const MbKernel portable_mbconv_f32 = make_mbconv_kernel<MbF32<Portable>>(Isa::portable, MbElement::f32);

}  // namespace pixeltier
