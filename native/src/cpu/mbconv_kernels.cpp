#include "mbconv_kernels.h"

namespace pixeltier {
namespace {

const MbKernel* const kKernels[] = {
#define PIXELTIER_ADDRESS(name) &name,
    PIXELTIER_MBCONV_KERNELS(PIXELTIER_ADDRESS)
#undef PIXELTIER_ADDRESS
};

const char* const kNames[] = {
#define PIXELTIER_TEXT(name) #name,
    PIXELTIER_MBCONV_KERNELS(PIXELTIER_TEXT)
#undef PIXELTIER_TEXT
};

}  // namespace

const MbKernel* find_mbconv_kernel(Isa isa, MbElement element) {
  return isa_available(isa) ? preferred_kernel(kKernels, isa, element) : nullptr;
}

std::vector<KernelChoice> mbconv_kernel_choices() { return kernel_choices(kKernels, kNames); }

}  // namespace pixeltier
