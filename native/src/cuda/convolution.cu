#include "convolution.cuh"

namespace pixeltier {

int cuda_multiprocessors(int device) { return simt::multiprocessors(device); }

void cuda_convolution(const CudaQueue& queue, const CudaConvolution& convolution) {
  switch (convolution.layout.element) {
    case CudaElement::bf16:
      return run_convolution_bf16(queue, convolution);
    case CudaElement::f16:
      return run_convolution_f16(queue, convolution);
    case CudaElement::f32:
      return run_convolution_f32(queue, convolution);
  }
}

}  // namespace pixeltier
