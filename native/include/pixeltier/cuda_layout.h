// How the CUDA kernels want a convolution's weights. Host code, torch-free, built with or without CUDA.
//
// A row's channels are cut into chunks of 16 bytes, the unit that is copied to shared memory; the chunks of
// all taps, one tap after another, are the depth of the matrix product. Eight chunks make a step (128 bytes
// of a row). Weights are [group of 16 outputs][step][16 outputs][128 bytes], zeros beyond what there is.
//
// A thread of the tensor cores holds columns 2t and 2t + 1 of two neighbouring 8-column tiles. Outputs of a
// group are therefore ordered so that these are four outputs in a row, which it stores at once.
//
// Behind the weights lies the occupancy: a byte for each [step][group], 0 where all of its weights are zero.
#pragma once

#include <cstdint>

namespace pixeltier {

enum class CudaElement { f32, bf16, f16 };

struct CudaWeightLayout {
  static constexpr int64_t kChunkBytes = 16, kChunksPerStep = 8, kStepBytes = 128, kGroup = 16;

  int64_t outputs, taps, inputs;
  CudaElement element;

  int64_t element_bytes() const { return element == CudaElement::f32 ? 4 : 2; }
  int64_t chunk() const { return kChunkBytes / element_bytes(); }  // channels of a chunk
  int64_t chunks_per_tap() const { return (inputs + chunk() - 1) / chunk(); }
  int64_t steps() const { return (taps * chunks_per_tap() + kChunksPerStep - 1) / kChunksPerStep; }
  int64_t groups() const { return (outputs + kGroup - 1) / kGroup; }
  int64_t padded_outputs() const { return groups() * kGroup; }
  int64_t weight_bytes() const { return groups() * steps() * kGroup * kStepBytes; }
  // Elements of a packed weight: the weights, then the occupancy.
  int64_t size() const {
    return (weight_bytes() + groups() * steps() + element_bytes() - 1) / element_bytes();
  }

  // The output of a group that lies at `place` of its 16.
  static constexpr int64_t output_at(int64_t place) {
    return 4 * (place % 8 / 2) + 2 * (place / 8) + place % 2;
  }
};

// Lays out weight [outputs, inputs, taps] (float); output o of the packed order is output_order[o] of the
// weight. `packed` holds layout.size() elements, all zero.
void pack_cuda_weight(const float* weight, const int64_t* output_order, const CudaWeightLayout& layout,
                      void* packed);

}  // namespace pixeltier
