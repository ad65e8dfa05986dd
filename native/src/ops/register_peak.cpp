// register_peak: the multiply-adds of a kernel without its memory accesses, for benchmarks to time.
#include <torch/library.h>

#include "convolution.h"

namespace pixeltier {
namespace {

// Runs on the calling thread; returns how many multiply-adds it did.
int64_t register_peak(at::ScalarType dtype, std::string isa, int64_t steps) {
  return require_kernel(isa, dtype).spin(steps);
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("register_peak(ScalarType dtype, str isa, int steps) -> int", pixeltier::register_peak);
}
