// Between float and bfloat16, which is the upper half of a float.
#pragma once

#include <cstdint>
#include <cstring>

#include "pixeltier/row_kernel.h"

namespace pixeltier {
namespace {

inline float to_float(float value) { return value; }

inline float to_float(BFloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline void assign(float value, float& to) { to = value; }

// Round to nearest even; a NaN stays one.
inline void assign(float value, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  to.bits = value != value ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace
}  // namespace pixeltier
