#include "row_kernels.h"

namespace pixeltier {
namespace {

const RowKernel* const kKernels[] = {
#define PIXELTIER_ADDRESS(name) &name,
    PIXELTIER_ROW_KERNELS(PIXELTIER_ADDRESS)
#undef PIXELTIER_ADDRESS
};

const char* const kNames[] = {
#define PIXELTIER_TEXT(name) #name,
    PIXELTIER_ROW_KERNELS(PIXELTIER_TEXT)
#undef PIXELTIER_TEXT
};

}  // namespace

const RowKernel* find_row_kernel(Isa isa, Element element) {
  return isa_available(isa) ? preferred_kernel(kKernels, isa, element) : nullptr;
}

std::vector<KernelChoice> row_kernel_choices() { return kernel_choices(kKernels, kNames); }

}  // namespace pixeltier
