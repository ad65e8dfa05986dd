#include "pixeltier/mbconv_network.h"

#include <algorithm>

namespace pixeltier {
namespace {

constexpr int64_t kAlignment = 64;

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

MbNetwork::MbNetwork(const MbKernel& kernel, MbShape shape) : kernel_(kernel), shape_(std::move(shape)) {
  for (const MbBlock& block : shape_.blocks) {
    if (layers_.empty())
      layers_.push_back({block.hidden, kStemKernel, kStemKernel * kColours, false});
    else
      layers_.push_back({block.hidden, 1, block.inputs, false});
    layers_.push_back({block.hidden, block.kernel * block.kernel, 1, true});
    layers_.push_back({block.outputs, 1, block.hidden, false});
  }
  layers_.push_back({shape_.head, 1, shape_.blocks.back().outputs, false});
  layers_.push_back({shape_.classes, 1, shape_.head, false});

  const bool int8 = kernel.element == MbElement::int8;
  const auto place = [this](int64_t bytes) {
    const int64_t at = packed_size_;
    packed_size_ += round_up(bytes, kAlignment);
    return at;
  };
  for (MbLayer& layer : layers_) {
    const int64_t floats = padded(layer.outputs) * static_cast<int64_t>(sizeof(float));
    layer.weight = place(vectors(layer.outputs) * panel(layer) * (int8 ? 1 : sizeof(float)));
    layer.bias = place(floats);
    if (!int8) continue;
    layer.scale = place(floats);
    layer.extra = place(sizeof(float));
  }
}

int64_t MbNetwork::cells(int64_t height, int64_t width, int64_t blocks) const {
  const auto reduced = [](int64_t size, int64_t stride) { return (size + stride - 1) / stride; };
  height = reduced(height, kStemStride);
  width = reduced(width, kStemStride);
  for (int64_t b = 0; b < blocks; b++) {
    height = reduced(height, shape_.blocks[b].stride);
    width = reduced(width, shape_.blocks[b].stride);
  }
  return height * width;
}

int64_t MbNetwork::panel(const MbLayer& layer) const {
  if (kernel_.element == MbElement::f32) return layer.taps * layer.inputs * kernel_.lanes;
  if (!layer.depthwise) return layer.taps * round_up(layer.inputs, kInt8Depth) * kernel_.lanes;
  const int64_t kernel = layer.taps == 9 ? 3 : 5;
  return kernel * round_up(kernel, kInt8Depth) * kernel_.lanes;
}

// In int8, a line of a depthwise kernel is laid out as the inputs of a tap are.
template <class Weight>
void MbNetwork::pack_weight(const MbLayer& layer, const Weight* weight, Weight* packed) const {
  const int64_t depth = kernel_.element == MbElement::f32 ? 1 : kInt8Depth, lanes = kernel_.lanes;
  const int64_t line = layer.depthwise ? (layer.taps == 9 ? 3 : 5) : layer.inputs;
  const int64_t lines = layer.taps * layer.inputs / line, step = round_up(line, depth) * lanes;
  std::fill_n(packed, vectors(layer.outputs) * panel(layer), Weight{});
  for (int64_t o = 0; o < layer.outputs; o++)
    for (int64_t t = 0; t < lines; t++)
      for (int64_t i = 0; i < line; i++) {
        Weight* to = packed + o / lanes * panel(layer) + t * step;
        to[(i / depth * lanes + o % lanes) * depth + i % depth] = weight[(o * lines + t) * line + i];
      }
}

void MbNetwork::pack(const MbLayer& layer, const MbLayerValues& values, uint8_t* packed) const {
  const auto pack_floats = [&](const float* from, int64_t offset) {
    auto* to = reinterpret_cast<float*>(packed + offset);
    std::fill_n(std::copy_n(from, layer.outputs, to), padded(layer.outputs) - layer.outputs, 0.0f);
  };
  pack_floats(values.bias, layer.bias);
  if (kernel_.element == MbElement::f32) {
    pack_weight(layer, static_cast<const float*>(values.weight),
                reinterpret_cast<float*>(packed + layer.weight));
    return;
  }
  pack_weight(layer, static_cast<const int8_t*>(values.weight),
              reinterpret_cast<int8_t*>(packed + layer.weight));
  pack_floats(values.scale, layer.scale);
  *reinterpret_cast<float*>(packed + layer.extra) = values.extra;
}

}  // namespace pixeltier
