// Weights for the CUDA kernels: which "instruction sets" name them, and their layout. Built with or without
// CUDA.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <string>

#include "pixeltier/cuda_layout.h"

namespace pixeltier {

// "cuda", or "cuda_tf32": 32-bit floats are rounded to TF32 before they are multiplied.
inline bool is_cuda_isa(const std::string& isa) { return isa == "cuda" || isa == "cuda_tf32"; }

inline CudaElement cuda_element_of(at::ScalarType type) {
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
                   "rows must be float32, bfloat16 or float16, got ", type);
  return type == at::kFloat ? CudaElement::f32 : type == at::kBFloat16 ? CudaElement::bf16 : CudaElement::f16;
}

inline CudaWeightLayout cuda_layout(int64_t outputs, int64_t taps, int64_t inputs, at::ScalarType type) {
  return {outputs, taps, inputs, cuda_element_of(type)};
}

}  // namespace pixeltier
