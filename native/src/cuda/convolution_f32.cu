#include "convolution.cuh"

namespace pixeltier {
namespace {

template <class Multiply>
void run(const CudaQueue& queue, const CudaConvolution& c) {
  if (aligned_rows(c))
    run_convolution<ConvolutionShape<Multiply, 64, 64, 32, 32, 4, 3, true, true>>(queue, c);
  else
    run_convolution<ConvolutionShape<Multiply, 64, 64, 32, 32, 3, 3, false, true>>(queue, c);
}

}  // namespace

void run_convolution_f32(const CudaQueue& queue, const CudaConvolution& c) {
  if (c.math == FloatMath::tf32)
    run<MultiplyTf32>(queue, c);
  else
    run<MultiplyTf32x3>(queue, c);
}

}  // namespace pixeltier
