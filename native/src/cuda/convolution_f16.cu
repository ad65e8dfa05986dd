#include "convolution.cuh"

namespace pixeltier {

void run_convolution_f16(const CudaQueue& queue, const CudaConvolution& c) {
  run_convolution_half<MultiplyF16>(queue, c);
}

}  // namespace pixeltier
