#include <algorithm>

#include "bfloat16.h"
#include "pixeltier/row_kernel.h"

namespace pixeltier {
namespace {

struct Shape {
  int64_t outputs, inputs, taps;
};

// The value that packed output o, input i and tap t hold: zero where they are padding.
struct Source {
  const float* weight;
  const int64_t* order;
  Shape shape;

  float operator()(int64_t o, int64_t i, int64_t t) const {
    if (o >= shape.outputs || i >= shape.inputs) return 0;
    return weight[(order[o] * shape.inputs + i) * shape.taps + t];
  }
};

template <class T>
void pack(const Source& source, const WeightLayout& layout, T* packed) {
  const int64_t depth = layout.depth, groups = layout.padded_inputs(source.shape.inputs) / depth;
  for (int64_t first = 0; first < source.shape.outputs; first += layout.block()) {
    const int64_t width = std::min(layout.block(), layout.padded_outputs(source.shape.outputs) - first);
    for (int64_t t = 0; t < source.shape.taps; t++)
      for (int64_t g = 0; g < groups; g++)
        for (int64_t o = first; o < first + width; o++)
          for (int64_t i = g * depth; i < (g + 1) * depth; i++) assign(source(o, i, t), *packed++);
  }
}

// Whether any of the outputs [first, last) has a weight for the inputs [begin, end) of a tap.
bool occupied(const Source& source, int64_t first, int64_t last, int64_t begin, int64_t end, int64_t t) {
  for (int64_t o = first; o < last; o++)
    for (int64_t i = begin; i < end; i++)
      if (source(o, i, t) != 0) return true;  // also where it is NaN
  return false;
}

void note_occupancy(const Source& source, const WeightLayout& layout, uint8_t* occupancy) {
  for (int64_t first = 0; first < source.shape.outputs; first += layout.block())
    for (int64_t t = 0; t < source.shape.taps; t++)
      for (int64_t i = 0; i < source.shape.inputs; i += kOccupancyInputs) {
        unsigned vectors = 0;
        for (int64_t v = 0; v < layout.vectors; v++) {
          const int64_t o = first + v * layout.lanes;
          vectors |= static_cast<unsigned>(occupied(source, o, o + layout.lanes, i, i + kOccupancyInputs, t))
                     << v;
        }
        *occupancy++ = static_cast<uint8_t>(vectors);
      }
}

template <class T>
void pack_all(const Source& source, const WeightLayout& layout, T* packed) {
  pack(source, layout, packed);
  const auto [outputs, inputs, taps] = source.shape;
  T* end = packed + layout.weights(outputs, taps, inputs);
  note_occupancy(source, layout, reinterpret_cast<uint8_t*>(end));
}

}  // namespace

void pack_weight(const float* weight, const int64_t* output_order, int64_t outputs, int64_t inputs,
                 int64_t taps, const WeightLayout& layout, Element element, void* packed) {
  const Source source{weight, output_order, {outputs, inputs, taps}};
  if (element == Element::f32)
    pack_all(source, layout, static_cast<float*>(packed));
  else
    pack_all(source, layout, static_cast<BFloat16*>(packed));
}

}  // namespace pixeltier
