// The kernels of this build: one line for each (instruction set, element type).
#pragma once

#include "pixeltier/row_kernel.h"

namespace pixeltier {

extern const RowKernel portable_f32, portable_bf16;
#if defined(__x86_64__)
extern const RowKernel avx2_f32, avx2_bf16;
extern const RowKernel avx512_f32, avx512_convert_bf16;
extern const RowKernel avx512_native_bf16;
extern const RowKernel amx_bf16, amx_emulated_bf16;
#endif

}  // namespace pixeltier
