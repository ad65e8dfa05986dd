// Host code: weights in the layout of the CUDA kernels.
#include <cstring>

#include "pixeltier/cuda_layout.h"

namespace pixeltier {
namespace {

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // stay a quiet NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // rounds to 65536 or more
  if (magnitude < 0x38800000) {                       // below 2^-14: subnormal, in units of 2^-24
    float absolute;
    std::memcpy(&absolute, &magnitude, 4);
    const float shifted = absolute + 0.5f;  // whose last bit is 2^-24: the addition rounds to even
    uint32_t rounded;
    std::memcpy(&rounded, &shifted, 4);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

void store(void* to, CudaElement element, float value) {
  if (element == CudaElement::f32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const uint16_t half = element == CudaElement::bf16 ? to_bf16(value) : to_f16(value);
  std::memcpy(to, &half, 2);
}

}  // namespace

void pack_cuda_weight(const float* weight, const int64_t* output_order, const CudaWeightLayout& layout,
                      void* packed) {
  auto* const bytes = static_cast<uint8_t*>(packed);
  uint8_t* const occupancy = bytes + layout.weight_bytes();
  const int64_t chunk = layout.chunk(), per_tap = layout.chunks_per_tap(), size = layout.element_bytes();
  for (int64_t group = 0; group < layout.groups(); group++)
    for (int64_t place = 0; place < layout.kGroup; place++) {
      const int64_t output = group * layout.kGroup + layout.output_at(place);
      if (output >= layout.outputs) continue;
      const float* from = weight + output_order[output] * layout.inputs * layout.taps;
      for (int64_t tap = 0; tap < layout.taps; tap++)
        for (int64_t channel = 0; channel < layout.inputs; channel++) {
          const float value = from[channel * layout.taps + tap];
          const int64_t flat = tap * per_tap + channel / chunk, step = flat / layout.kChunksPerStep;
          const int64_t row = (group * layout.steps() + step) * layout.kGroup + place;
          store(bytes + row * layout.kStepBytes + flat % layout.kChunksPerStep * layout.kChunkBytes +
                    channel % chunk * size,
                layout.element, value);
          if (value != 0.0f) occupancy[step * layout.groups() + group] = 1;
        }
    }
}

}  // namespace pixeltier
