// A whole network of inverted residuals over dense images: a stem, blocks of expansion, depthwise convolution
// and projection, a head, the mean over the cells and a linear layer. Torch-free.
#pragma once

#include <functional>
#include <vector>

#include "pixeltier/mbconv_kernel.h"
#include "pixeltier/row_kernel.h"

namespace pixeltier {

// Of the stem: a convolution of 3x3 with stride 2 over three colours, which is the first block's expansion.
constexpr int64_t kColours = 3, kStemKernel = 3, kStemStride = 2;

struct MbBlock {
  int64_t inputs, hidden, outputs, kernel, stride;

  bool residual() const { return stride == 1 && inputs == outputs; }
};

struct MbShape {
  std::vector<MbBlock> blocks;  // the first one's inputs are its hidden channels, which the stem makes
  int64_t head, classes;
};

// Where a convolution lies in the packed weights, in bytes, and its sizes.
struct MbLayer {
  int64_t outputs, taps, inputs;  // inputs of one tap; of a depthwise convolution 1
  bool depthwise;
  int64_t weight = 0, bias = 0, scale = 0, extra = 0;  // the last two in int8 alone
};

// What prepacking is given for a layer.
struct MbLayerValues {
  const void* weight;  // [outputs, taps, inputs], float or int8_t
  const float* bias;   // [outputs]
  const float* scale;  // [outputs], in int8
  float extra;  // in int8: the stem's byte for zero, a projection's residual factor, what multiplies the mean
                // features to make them the linear layer's bytes; of no meaning for other layers
};

// The network's layers in order: of each block expansion (the stem for the first), depthwise, projection;
// then head and linear layer.
class MbNetwork {
 public:
  MbNetwork(const MbKernel& kernel, MbShape shape);

  const MbKernel& kernel() const { return kernel_; }
  const MbShape& shape() const { return shape_; }
  const std::vector<MbLayer>& layers() const { return layers_; }
  const MbLayer& expansion(int64_t block) const { return layers_[3 * block]; }
  const MbLayer& depthwise(int64_t block) const { return layers_[3 * block + 1]; }
  const MbLayer& projection(int64_t block) const { return layers_[3 * block + 2]; }
  const MbLayer& head() const { return layers_[layers_.size() - 2]; }
  const MbLayer& linear() const { return layers_.back(); }

  int64_t vectors(int64_t channels) const { return (channels + kernel_.lanes - 1) / kernel_.lanes; }
  int64_t padded(int64_t channels) const { return vectors(channels) * kernel_.lanes; }
  // Of an image's features behind so many blocks.
  int64_t cells(int64_t height, int64_t width, int64_t blocks) const;
  int64_t packed_size() const { return packed_size_; }

  // Elements of the packed weight of one vector of outputs.
  int64_t panel(const MbLayer& layer) const;

  // Lays out one layer.
  void pack(const MbLayer& layer, const MbLayerValues& values, uint8_t* packed) const;

 private:
  template <class Weight>
  void pack_weight(const MbLayer& layer, const Weight* weight, Weight* packed) const;

  const MbKernel& kernel_;
  MbShape shape_;
  std::vector<MbLayer> layers_;
  int64_t packed_size_ = 0;
};

struct MbInput {
  int64_t images, height, width;
  const uint8_t* bytes;  // [images, height, width, 3], or null
  const float* levels;   // [3, 256]: what a byte stands for; not in int8, where bytes are inputs
  const float* values;   // [images, height, width, 3], where there are no bytes
};

struct MbOutput {
  float* features;  // rows [images * cells, padded(head)]
  float* logits;    // [images, padded(classes)]
  void* kept;  // rows [images * cells, padded(outputs)] of the kept block's output, floats or bytes; or null
  int64_t kept_block;
};

// Runs `run` on ranges that make up [0, count), in order or at the same time, and returns when all are done.
using ParallelFor =
    std::function<void(int64_t count, const std::function<void(int64_t begin, int64_t end)>& run)>;

// Computes the network; results do not depend on `threads`, the number that work is divided for.
void run_mbconv_network(const MbNetwork& network, const uint8_t* packed, const MbInput& input,
                        const MbOutput& output, int64_t threads, const ParallelFor& parallel);

}  // namespace pixeltier
