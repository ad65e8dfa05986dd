// Inverted residuals in int8 on AVX-VNNI: 6 x 2 accumulators of 8 lanes.
#include "avx2_int8.h"
#include "mbconv_blocks.h"
#include "mbconv_int8.h"

namespace pixeltier {
namespace {

struct AvxVnni : Avx2Int8 {
  using Operand = __m256i;
  using Weight = __m256i;
  static constexpr int rows = 6;

  static Operand broadcast(const void* p) { return four_bytes(p); }
  static Operand quads(const uint8_t* p) { return four_cells(p); }
  static Weight weight(const int8_t* p) { return four_weights(p); }
  // Not the intrinsic: around it, GCC 12 copies every accumulator to and fro.
  static Ints accumulate(Ints sum, Operand x, Weight w) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
  }
};

}  // namespace

const MbKernel avx_vnni_mbconv_int8 = make_mbconv_kernel<MbInt8<AvxVnni>>(Isa::avx_vnni, MbElement::int8);

}  // namespace pixeltier
