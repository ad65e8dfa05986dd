// fp32 rows with the compiler's own vectors: SSE2 on x86-64, NEON on Arm.
#include <cstring>

#include "micro_kernel.h"
#include "row_kernels.h"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace pixeltier {
namespace {

typedef float Float4 __attribute__((vector_size(16)));

struct PortableFloat {
  using Element = float;
  using Sum = Float4;
  using Operand = Float4;
  using Weight = Float4;
  static constexpr int lanes = 4, vectors = 2, depth = 1, rows = 6;

  static Sum zero() { return Float4{}; }
  static Sum floats(const float* p) {
    Float4 v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Sum load(const Element* p) { return floats(p); }
  static Sum load(const Element* p, int64_t n) {
    Float4 v{};
    std::memcpy(&v, p, n * sizeof(float));
    return v;
  }
  static void store(Element* p, Sum v) { std::memcpy(p, &v, sizeof v); }
  static void store(Element* p, Sum v, int64_t n) { std::memcpy(p, &v, n * sizeof(float)); }
  static Sum add(Sum a, Sum b) { return a + b; }
  static Sum activate(Sum v, Sum slope) { return v > Float4{} ? v : v * slope; }

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

}  // namespace

const RowKernel portable_f32 = make_row_kernel<PortableFloat>(Isa::portable, Element::f32);

}  // namespace pixeltier
