// The kernels of this build: one line for each (instruction set, element type).
#pragma once

#include "pixeltier/row_kernel.h"

namespace pixeltier {

extern const RowKernel portable_f32;
#if defined(__x86_64__)
extern const RowKernel avx2_f32;
extern const RowKernel avx512_f32;
#endif

}  // namespace pixeltier
