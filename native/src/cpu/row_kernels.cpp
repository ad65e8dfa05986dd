#include "row_kernels.h"

namespace pixeltier {
namespace {

// Best first: a set without a kernel of its own for an element type uses that of the next lower one.
const RowKernel* const kKernels[] = {
#if defined(__x86_64__)
    &amx_emulated_bf16,   &amx_bf16,      &avx512_native_bf16, &avx512_f32,
    &avx512_convert_bf16, &avx2_f32,      &avx2_bf16,
#endif
    &portable_f32,        &portable_bf16,
};

}  // namespace

const RowKernel* find_row_kernel(Isa isa, Element element) {
  if (!isa_available(isa)) return nullptr;
  for (const RowKernel* kernel : kKernels)
    if (kernel->element == element && kernel->isa <= isa && isa_available(kernel->isa)) return kernel;
  return nullptr;
}

}  // namespace pixeltier
