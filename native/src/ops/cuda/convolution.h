// A convolution's tensors, checked, as the arguments of the CUDA kernels.
#pragma once

#include <optional>

#include "device.h"

namespace pixeltier {

// Everything but the residual and the result, which are the caller's to set.
CudaConvolution check_cuda_convolution(const at::Tensor& rows, const at::Tensor& table,
                                       const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                       const std::optional<at::Tensor>& slope, int64_t outputs,
                                       const std::string& isa);

// The result's rows go to `out` [rows + 1, channels], whose last row is cleared.
void write_to(CudaConvolution& convolution, const at::Tensor& out);

}  // namespace pixeltier
