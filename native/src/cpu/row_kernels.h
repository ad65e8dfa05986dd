// The kernels over rows in this build: one line for each (instruction set, element type), in any order.
#pragma once

#include "pixeltier/row_kernel.h"

#if defined(__x86_64__)
#define PIXELTIER_ROW_KERNELS(KERNEL) \
  KERNEL(portable_f32)                \
  KERNEL(portable_bf16)               \
  KERNEL(avx2_f32)                    \
  KERNEL(avx2_bf16)                   \
  KERNEL(avx512_f32)                  \
  KERNEL(avx512_convert_bf16)         \
  KERNEL(avx512_native_bf16)          \
  KERNEL(amx_bf16)                    \
  KERNEL(amx_emulated_bf16)
#else
#define PIXELTIER_ROW_KERNELS(KERNEL) \
  KERNEL(portable_f32)                \
  KERNEL(portable_bf16)
#endif

namespace pixeltier {

#define PIXELTIER_DECLARE(name) extern const RowKernel name;
PIXELTIER_ROW_KERNELS(PIXELTIER_DECLARE)
#undef PIXELTIER_DECLARE

}  // namespace pixeltier
