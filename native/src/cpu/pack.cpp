#include <algorithm>
#include <cstring>

#include "pixeltier/row_kernel.h"

namespace pixeltier {
namespace {

void assign(float value, float& to) { to = value; }

// Round to nearest even; a NaN stays one.
void assign(float value, BFloat16& to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  to.bits = value != value ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <class T>
void pack(const float* weight, const int64_t* order, int64_t outputs, int64_t inputs, int64_t taps,
          const WeightLayout& layout, T* packed) {
  const int64_t depth = layout.depth, groups = layout.padded_inputs(inputs) / depth;
  for (int64_t first = 0; first < outputs; first += layout.block()) {
    const int64_t width = std::min(layout.block(), layout.padded_outputs(outputs) - first);
    for (int64_t t = 0; t < taps; t++)
      for (int64_t g = 0; g < groups; g++)
        for (int64_t o = first; o < first + width; o++)
          for (int64_t i = g * depth; i < (g + 1) * depth; i++)
            assign(o < outputs && i < inputs ? weight[(order[o] * inputs + i) * taps + t] : 0.0f, *packed++);
  }
}

}  // namespace

void pack_weight(const float* weight, const int64_t* output_order, int64_t outputs, int64_t inputs,
                 int64_t taps, const WeightLayout& layout, Element element, void* packed) {
  if (element == Element::f32)
    pack(weight, output_order, outputs, inputs, taps, layout, static_cast<float*>(packed));
  else
    pack(weight, output_order, outputs, inputs, taps, layout, static_cast<BFloat16*>(packed));
}

}  // namespace pixeltier
