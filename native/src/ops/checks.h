// Argument checks that say what was got.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <limits>

namespace pixeltier {

inline void check_tensor(const at::Tensor& t, const char* name, int64_t dimensions, at::ScalarType type) {
  TORCH_CHECK_VALUE(t.device().is_cpu(), name, " must be on the CPU, got ", t.device());
  TORCH_CHECK_VALUE(t.dim() == dimensions, name, " must have ", dimensions, " dimensions, got shape ",
                    t.sizes());
  TORCH_CHECK_TYPE(t.scalar_type() == type, name, " must be ", type, ", got ", t.scalar_type());
  TORCH_CHECK_VALUE(t.is_contiguous(), name, " must be contiguous, got strides ", t.strides(), " for shape ",
                    t.sizes());
}

inline void check_grid(int64_t images, int64_t height, int64_t width) {
  TORCH_CHECK_VALUE(images >= 0 && height > 0 && width > 0,
                    "a grid needs images >= 0, height > 0 and width > 0, got ", images, " x ", height, " x ",
                    width);
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  TORCH_CHECK_VALUE(height <= most && width <= most && height * width <= most &&
                        (images == 0 || height * width <= most / images),
                    "a grid of ", images, " x ", height, " x ", width,
                    " has more cells than 32-bit row numbers can name");
}

inline void check_kernel(int64_t kernel) {
  TORCH_CHECK_VALUE(kernel > 0 && kernel % 2 == 1 && kernel <= 31,
                    "kernel must be odd and between 1 and 31, got ", kernel);
}

}  // namespace pixeltier
