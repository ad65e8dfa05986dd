#include "convolution.cuh"

namespace pixeltier {

void run_convolution_bf16(const CudaQueue& queue, const CudaConvolution& c) {
  run_convolution_half<MultiplyBf16>(queue, c);
}

}  // namespace pixeltier
