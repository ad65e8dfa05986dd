// Addresses of up to 20 equidistant rows in few registers.
#pragma once

#include <cstdint>

#define PIXELTIER_UNROLL _Pragma("GCC unroll 64")

namespace pixeltier {
namespace {

// Row r of a group of five is its first row plus 0, 1, 2, 3 or 4 strides: what an address can express with
// the stride and its triple in registers. Without this, a pointer for each row would be read from the stack
// at every step.
template <int kRows>
class RowPointers {
 public:
  RowPointers(const void* first, int64_t stride) : stride_(stride), triple_(3 * stride) {
    for (int g = 0; g < kGroups; g++) {
      group_[g] = static_cast<const char*>(first) + 5 * g * stride;
      __asm__("" : "+r"(group_[g]));  // not to be derived from another group's
    }
    __asm__("" : "+r"(triple_));
  }

  void advance(int64_t bytes) {
    PIXELTIER_UNROLL
    for (int g = 0; g < kGroups; g++) group_[g] += bytes;
  }

  const void* at(int row) const {
    const char* group = group_[row / 5];
    const int step = row % 5;
    return step == 3 ? group + triple_ : group + step * stride_;
  }

 private:
  static constexpr int kGroups = (kRows + 4) / 5;
  const char* group_[kGroups];
  int64_t stride_, triple_;
};

}  // namespace
}  // namespace pixeltier
