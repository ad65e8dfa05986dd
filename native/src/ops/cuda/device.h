// What the CUDA ops share: argument checks, the current stream.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "pixeltier/cuda_kernels.h"

namespace pixeltier {

inline void check_cuda_tensor(const at::Tensor& t, const char* name, int64_t dimensions, at::ScalarType type,
                              const at::Device& device) {
  TORCH_CHECK_VALUE(t.device() == device, name, " must be on ", device, ", got ", t.device());
  TORCH_CHECK_VALUE(t.dim() == dimensions, name, " must have ", dimensions, " dimensions, got shape ",
                    t.sizes());
  TORCH_CHECK_TYPE(t.scalar_type() == type, name, " must be ", type, ", got ", t.scalar_type());
  TORCH_CHECK_VALUE(t.is_contiguous(), name, " must be contiguous, got strides ", t.strides(), " for shape ",
                    t.sizes());
}

// The current stream of the device that an OptionalCUDAGuard has made current.
inline CudaQueue current_queue(const at::Device& device) {
  return {c10::cuda::getCurrentCUDAStream(device.index()).stream(), cuda_multiprocessors(device.index())};
}

}  // namespace pixeltier
