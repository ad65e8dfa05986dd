// fp32 and bf16 rows with the compiler's own vectors: SSE2 on x86-64, NEON on Arm.
#include <cstring>

#include "row_kernels.h"
#include "winograd_kernel.h"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace pixeltier {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef uint32_t Word4 __attribute__((vector_size(16)));

// 1.5 * 2^23: added to a number far smaller, it leaves the nearest whole one in the lowest bits.
constexpr float kWhole = 12582912.0f;

struct PortableFloat {
  using Element = float;
  using Sum = Float4;
  using Operand = Float4;
  using Weight = Float4;
  static constexpr int lanes = 4, vectors = 2, depth = 1, rows = 6;

  static void claim(Sum& sum) {
#if defined(__ARM_NEON)
    __asm__ volatile("" : "+w"(sum));
#elif defined(__x86_64__)
    __asm__ volatile("" : "+x"(sum));
#else
    __asm__ volatile("" : "+m"(sum));
#endif
  }
  static Sum zero() { return Float4{}; }
  static Sum floats(const float* p) {
    Float4 v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void keep(float* p, Sum v) { std::memcpy(p, &v, sizeof v); }
  static Sum load(const Element* p) { return floats(p); }
  static Sum load(const Element* p, int64_t n) {
    Float4 v{};
    std::memcpy(&v, p, n * sizeof(float));
    return v;
  }
  static void store(Element* p, Sum v) { std::memcpy(p, &v, sizeof v); }
  static void store(Element* p, Sum v, int64_t n) { std::memcpy(p, &v, n * sizeof(float)); }
  static Sum add(Sum a, Sum b) { return a + b; }
  static Sum subtract(Sum a, Sum b) { return a - b; }
  static Sum activate(Sum v, Sum slope) { return v > Float4{} ? v : v * slope; }

  static Sum constant(float value) { return Float4{value, value, value, value}; }
  static Sum multiply(Sum a, Sum b) { return a * b; }
  static Sum multiply_add(Sum a, Sum b, Sum c) { return a * b + c; }
  static Sum divide(Sum a, Sum b) { return a / b; }
  static Sum at_most(Sum limit, Sum v) { return limit < v ? limit : v; }
  static Sum at_least(Sum limit, Sum v) { return limit > v ? limit : v; }
  static Sum nearest(Sum v) { return v + kWhole - kWhole; }
  static Sum scale(Sum v, Sum exponent) {
    const Float4 half = (Float4)((Word4)v + ((Word4)(exponent - 1 + kWhole) << 23));
    return half + half;
  }

  static Weight weight(const Element* p) { return floats(p); }
  static Operand operand(const Element* p) { return Float4{*p, *p, *p, *p}; }
  static Operand operand_tail(const Element* p) { return operand(p); }
  static void accumulate(Sum& sum, Operand x, Weight w) {
#if defined(__ARM_NEON)
    sum = vfmaq_f32(sum, x, w);
#else
    sum += x * w;
#endif
  }
};

// A bfloat16 is the upper half of a float: a pair of them is split into two floats with a shift and a mask.
struct PortableBFloat16 : PortableFloat {
  using Element = BFloat16;
  struct Pair {
    Float4 even, odd;
  };
  using Operand = Pair;
  using Weight = Pair;
  static constexpr int depth = 2, rows = 4;

  static Sum load(const Element* p) { return load(p, lanes); }
  static Sum load(const Element* p, int64_t n) {
    Word4 words{};
    for (int64_t i = 0; i < n; i++) words[i] = uint32_t{p[i].bits} << 16;
    return (Float4)words;
  }
  static void store(Element* p, Sum v) { store(p, v, lanes); }
  static void store(Element* p, Sum v, int64_t n) {
    const Word4 bits = (Word4)v;
    const Word4 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16, is_nan = (Word4)(v != v);
    const Word4 words = (is_nan & 0x7fc0) | (~is_nan & rounded);
    for (int64_t i = 0; i < n; i++) p[i].bits = static_cast<uint16_t>(words[i]);
  }

  static Weight weight(const Element* p) {
    Word4 words;
    std::memcpy(&words, p, sizeof words);
    return split(words);
  }
  static Operand operand(const Element* p) {
    uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return split(Word4{pair, pair, pair, pair});
  }
  static Operand operand_tail(const Element* p) {
    const uint32_t only = p->bits;
    return split(Word4{only, only, only, only});
  }
  static void accumulate(Sum& sum, const Operand& x, const Weight& w) {
    PortableFloat::accumulate(sum, x.even, w.even);
    PortableFloat::accumulate(sum, x.odd, w.odd);
  }

 private:
  static Pair split(Word4 words) { return {(Float4)(words << 16), (Float4)(words & 0xffff0000u)}; }
};

}  // namespace

const RowKernel portable_f32 = make_row_kernel<PortableFloat>(Isa::portable, Element::f32);
const RowKernel portable_bf16 = make_row_kernel<PortableBFloat16>(Isa::portable, Element::bf16);

}  // namespace pixeltier
