// The kernels of inverted residuals in this build: one line for each (instruction set, element type), in any
// order.
#pragma once

#include "pixeltier/mbconv_kernel.h"

#if defined(__x86_64__)
#define PIXELTIER_MBCONV_KERNELS(KERNEL) \
  KERNEL(portable_mbconv_f32)            \
  KERNEL(portable_mbconv_int8)           \
  KERNEL(avx2_mbconv_f32)                \
  KERNEL(avx2_mbconv_int8)               \
  KERNEL(avx_vnni_mbconv_int8)           \
  KERNEL(avx512_mbconv_f32)              \
  KERNEL(avx512_vnni_mbconv_int8)
#else
#define PIXELTIER_MBCONV_KERNELS(KERNEL) \
  KERNEL(portable_mbconv_f32)            \
  KERNEL(portable_mbconv_int8)
#endif

namespace pixeltier {

#define PIXELTIER_DECLARE(name) extern const MbKernel name;
PIXELTIER_MBCONV_KERNELS(PIXELTIER_DECLARE)
#undef PIXELTIER_DECLARE

}  // namespace pixeltier
