// The kernel of a table, told from its columns.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <limits>

namespace pixeltier {

// The side of a square of `taps`, -1 where there is none that is odd.
inline int64_t side_of(int64_t taps) {
  int64_t side = 1;
  while (side * side < taps) side += 2;
  return side * side == taps ? side : -1;
}

// The kernel of a parent table that can serve children of `kernel`.
inline int64_t check_parent(const at::Tensor& parent, int64_t kernel) {
  const int64_t parent_kernel = side_of(parent.size(1));
  TORCH_CHECK_VALUE(parent_kernel > 0 && parent_kernel / 2 >= (kernel / 2 + 1) / 2,
                    "the children's kernel of ", kernel,
                    " needs a parent table of an odd kernel of at least ", (kernel / 2 + 1) / 2 * 2 + 1,
                    " squared columns, got shape ", parent.sizes());
  TORCH_CHECK_VALUE(parent.size(0) <= std::numeric_limits<int32_t>::max() / 4,
                    "too many rows for 32-bit row numbers: ", parent.size(0));
  return parent_kernel;
}

}  // namespace pixeltier
