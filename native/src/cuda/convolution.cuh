// The sparse convolution as a matrix product whose left rows are gathered: out[m] = sum over (tap, channel)
// of rows[table[m, tap], channel] * weight. One kernel for all element types, because it sees 16-byte chunks;
// only the multiplication and the stores know what is in them.
//
// Each block takes tiles of kTileRows x kTileOutputs in turn until it meets padding. Steps of eight chunks
// travel through kStages buffers in shared memory: while one is multiplied, the next ones are being copied.
// Within a buffer a row is 128 bytes whose chunk c lies at c ^ (row % 8), so that neither the copies nor
// ldmatrix have bank conflicts.
#pragma once

#include "pixeltier/cuda_kernels.h"
#include "simt.cuh"

namespace pixeltier {

// --- What elements are. kDepth is how many go into a 16-byte chunk.
struct Bf16 {
  static constexpr int kDepth = 8;
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    return simt::pack_bf16(low, high);
  }
  static __device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ __forceinline__ float high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
};

struct F16 {
  static constexpr int kDepth = 8;
  static __device__ __forceinline__ uint32_t pack(float low, float high) { return simt::pack_f16(low, high); }
  static __device__ __forceinline__ float low(uint32_t pair) {
    return simt::float_of_f16(static_cast<uint16_t>(pair));
  }
  static __device__ __forceinline__ float high(uint32_t pair) {
    return simt::float_of_f16(static_cast<uint16_t>(pair >> 16));
  }
};

struct F32 {
  static constexpr int kDepth = 4;
};

// --- How fragments are multiplied. kSeparateSums: the tensor cores' sums of a step are added up outside of
// them, because they truncate where an addition rounds.
struct MultiplyBf16 {
  using Element = Bf16;
  static constexpr bool kSeparateSums = false;
  static __device__ __forceinline__ void run(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    simt::multiply_bf16(d, a, b0, b1);
  }
};

struct MultiplyF16 {
  using Element = F16;
  static constexpr bool kSeparateSums = false;
  static __device__ __forceinline__ void run(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    simt::multiply_f16(d, a, b0, b1);
  }
};

struct MultiplyTf32 {
  using Element = F32;
  static constexpr bool kSeparateSums = false;
  static __device__ __forceinline__ void run(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    uint32_t rounded[4];
#pragma unroll
    for (int i = 0; i < 4; i++) rounded[i] = simt::round_to_tf32(__uint_as_float(a[i]));
    simt::multiply_tf32(d, rounded, simt::round_to_tf32(__uint_as_float(b0)),
                        simt::round_to_tf32(__uint_as_float(b1)));
  }
};

// x = big + small in TF32 each; small * small is below what a float keeps.
struct MultiplyTf32x3 {
  using Element = F32;
  static constexpr bool kSeparateSums = true;
  static __device__ __forceinline__ void split(uint32_t bits, uint32_t& big, uint32_t& small) {
    const float value = __uint_as_float(bits);
    big = simt::round_to_tf32(value);
    small = simt::round_to_tf32(value - __uint_as_float(big));
  }
  static __device__ __forceinline__ void run(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
    uint32_t big[4], small[4], big0, small0, big1, small1;
#pragma unroll
    for (int i = 0; i < 4; i++) split(a[i], big[i], small[i]);
    split(b0, big0, small0);
    split(b1, big1, small1);
    simt::multiply_tf32(d, small, big0, big1);
    simt::multiply_tf32(d, big, small0, small1);
    simt::multiply_tf32(d, big, big0, big1);
  }
};

// --- The shape of a kernel. kAligned: rows start at multiples of 16 bytes. kSkip: consult the occupancy.
template <class Multiply_, int kTileRows_, int kTileOutputs_, int kWarpRows_, int kWarpOutputs_, int kStages_,
          int kBlocks_, bool kAligned_, bool kSkip_>
struct ConvolutionShape {
  using Multiply = Multiply_;
  using Element = typename Multiply::Element;
  static constexpr int kTileRows = kTileRows_, kTileOutputs = kTileOutputs_, kStages = kStages_;
  static constexpr int kBlocks = kBlocks_;  // that a multiprocessor should hold
  static constexpr bool kAligned = kAligned_, kSkip = kSkip_;
  static constexpr int kGroup = CudaWeightLayout::kGroup;
  static constexpr int kChunks = CudaWeightLayout::kChunksPerStep;
  static constexpr int kStepBytes = CudaWeightLayout::kStepBytes;

  // Warps, and what each multiplies: kFragments x 16 rows by kGroups x 16 outputs.
  static constexpr int kWarpRows = kWarpRows_, kWarpOutputs = kWarpOutputs_;
  static constexpr int kThreads = 32 * (kTileRows / kWarpRows) * (kTileOutputs / kWarpOutputs);
  static constexpr int kFragments = kWarpRows / 16, kGroups = kWarpOutputs / kGroup;
  static_assert(kTileRows % kWarpRows == 0 && kTileOutputs % kWarpOutputs == 0);
  static_assert(kWarpRows % 16 == 0 && kWarpOutputs % kGroup == 0 && kStages >= 2);

  // Copies: a thread always handles the same chunk of a step, of every kRowStride-th row.
  static constexpr int kRowStride = kThreads / kChunks;
  static constexpr int kRowCopies = kTileRows / kRowStride;
  static_assert(kTileRows % kRowStride == 0 && kRowStride % 8 == 0);

  static constexpr int kRowBytes = kTileRows * kStepBytes;
  static constexpr int kStageBytes = kRowBytes + kTileOutputs * kStepBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

__device__ __forceinline__ int swizzled(int row, int chunk) {
  return row * CudaWeightLayout::kStepBytes + ((chunk ^ (row & 7)) << 4);
}

// What a kernel reads of the convolution, in the types it computes with.
struct ConvolutionArguments {
  const char* rows;
  int64_t row_count;
  int64_t row_bytes;
  const int32_t* table;
  int64_t count;
  int taps, inputs, outputs;
  int chunks_per_tap, steps, groups;
  const char* weight;
  const uint8_t* occupancy;
  const float* bias;
  const float* slope;
  const void* residual;
  const int32_t* out_rows;
  int64_t out_row_count;
  void* out;
  bool out_f32, vector_stores;
  uint16_t* zero_row;
  int64_t zero_halves;
};

// One block's walk through the steps of one tile.
template <class Shape>
struct TileLoader {
  const ConvolutionArguments& c;
  const int64_t first_row;  // of the table
  const int first_group;    // of outputs
  const int chunk = threadIdx.x % Shape::kChunks, row = threadIdx.x / Shape::kChunks;
  int32_t source[Shape::kRowCopies];  // rows that the next copy reads; negative: zeros
  int within;                         // the chunk within those rows

  // Step `step` or the first one after it whose weights of this tile are not all zero.
  __device__ __forceinline__ int next(int step) const {
    if constexpr (Shape::kSkip)
      while (step < c.steps && occupied(step) == 0) step++;
    return step;
  }

  // Bit g: whether group g of the tile has any weight but zero in this step.
  __device__ __forceinline__ uint32_t occupied(int step) const {
    if constexpr (!Shape::kSkip) return ~0u;
    uint32_t bits = 0;
#pragma unroll
    for (int g = 0; g < Shape::kTileOutputs / Shape::kGroup; g++)
      if (first_group + g < c.groups && c.occupancy[step * c.groups + first_group + g]) bits |= 1u << g;
    return bits;
  }

  // Looks the rows of a step up in the table, ahead of its copy.
  __device__ __forceinline__ void look_up(int step) {
    const int flat = step * Shape::kChunks + chunk, tap = flat / c.chunks_per_tap;
    within = flat - tap * c.chunks_per_tap;
#pragma unroll
    for (int i = 0; i < Shape::kRowCopies; i++) {
      const int64_t m = first_row + row + i * Shape::kRowStride;
      const int32_t entry = m < c.count && tap < c.taps ? c.table[m * c.taps + tap] : -1;
      source[i] = entry < c.row_count ? entry : -1;
    }
  }

  // Starts copying the step that was looked up into a buffer.
  __device__ __forceinline__ void copy(int step, char* buffer) const {
#pragma unroll
    for (int i = 0; i < Shape::kRowCopies; i++) {
      const int to = row + i * Shape::kRowStride;
      const bool present = source[i] >= 0;
      const char* from = c.rows + (present ? source[i] * c.row_bytes + within * 16 : 0);
      if constexpr (Shape::kAligned)
        simt::copy_async(buffer + swizzled(to, chunk), from, present ? 16 : 0);
      else
        copy_elements(buffer + swizzled(to, chunk), from, present);
    }
    char* const weights = buffer + Shape::kRowBytes;
#pragma unroll
    for (int i = 0; i < (Shape::kTileOutputs + Shape::kRowStride - 1) / Shape::kRowStride; i++) {
      const int to = row + i * Shape::kRowStride, group = first_group + to / Shape::kGroup;
      if (Shape::kTileOutputs % Shape::kRowStride != 0 && to >= Shape::kTileOutputs) break;
      const bool present = group < c.groups;
      const int64_t line =
          (static_cast<int64_t>(group) * c.steps + step) * Shape::kGroup + to % Shape::kGroup;
      simt::copy_async(weights + swizzled(to, chunk),
                       c.weight + (present ? line * Shape::kStepBytes + chunk * 16 : 0), present ? 16 : 0);
    }
  }

  // A chunk of rows that are not aligned, or that ends beyond the row.
  __device__ __forceinline__ void copy_elements(char* to, const char* from, bool present) const {
    constexpr int kDepth = Shape::Element::kDepth;
    const int left = present ? c.inputs - within * kDepth : 0;
    if constexpr (kDepth == 4) {
#pragma unroll
      for (int e = 0; e < kDepth; e++)
        reinterpret_cast<float*>(to)[e] = e < left ? reinterpret_cast<const float*>(from)[e] : 0.0f;
    } else {
#pragma unroll
      for (int e = 0; e < kDepth; e++)
        reinterpret_cast<uint16_t*>(to)[e] =
            e < left ? reinterpret_cast<const uint16_t*>(from)[e] : uint16_t{0};
    }
  }
};

// The sums that one warp keeps: fragment f, group g, tile of 8 outputs h, and the four of the PTX ISA.
template <class Shape>
struct WarpSums {
  float sum[Shape::kFragments][Shape::kGroups][2][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int f = 0; f < Shape::kFragments; f++)
#pragma unroll
      for (int g = 0; g < Shape::kGroups; g++)
#pragma unroll
        for (int e = 0; e < 8; e++) sum[f][g][e / 4][e % 4] = 0;
  }

  __device__ __forceinline__ void add(const WarpSums& other) {
#pragma unroll
    for (int f = 0; f < Shape::kFragments; f++)
#pragma unroll
      for (int g = 0; g < Shape::kGroups; g++)
#pragma unroll
        for (int e = 0; e < 8; e++) sum[f][g][e / 4][e % 4] += other.sum[f][g][e / 4][e % 4];
  }

  // Adds the product of one buffer; warp_row and warp_output are where in the tile the warp's part begins.
  __device__ __forceinline__ void multiply(const char* buffer, int warp_row, int warp_output,
                                           uint32_t occupied) {
    const int lane = threadIdx.x % 32;
    const int a_row = warp_row + lane % 16, a_chunk = lane / 16;
    const int b_row = warp_output + lane % 8 + lane / 16 * 8, b_chunk = lane / 8 % 2;
    const char* const weights = buffer + Shape::kRowBytes;
#pragma unroll
    for (int k = 0; k < Shape::kChunks; k += 2) {
      uint32_t a[Shape::kFragments][4];
#pragma unroll
      for (int f = 0; f < Shape::kFragments; f++)
        simt::load_matrices(a[f], buffer + swizzled(a_row + 16 * f, k + a_chunk));
#pragma unroll
      for (int g = 0; g < Shape::kGroups; g++) {
        if (Shape::kSkip && !(occupied >> (warp_output / Shape::kGroup + g) & 1)) continue;
        uint32_t b[4];
        simt::load_matrices(b, weights + swizzled(b_row + Shape::kGroup * g, k + b_chunk));
#pragma unroll
        for (int f = 0; f < Shape::kFragments; f++) {
          Shape::Multiply::run(sum[f][g][0], a[f], b[0], b[1]);
          Shape::Multiply::run(sum[f][g][1], a[f], b[2], b[3]);
        }
      }
    }
  }
};

// --- Four outputs of one row: bias, residual, activation, store.
template <class Element>
__device__ __forceinline__ float load_one(const void* from, int64_t at, bool f32) {
  if constexpr (Element::kDepth == 8)
    if (!f32) return Element::low(static_cast<const uint16_t*>(from)[at]);
  return static_cast<const float*>(from)[at];
}

template <class Element>
__device__ __forceinline__ void store_one(void* to, int64_t at, bool f32, float value) {
  if constexpr (Element::kDepth == 8)
    if (!f32) {
      static_cast<uint16_t*>(to)[at] = static_cast<uint16_t>(Element::pack(value, 0.0f));
      return;
    }
  static_cast<float*>(to)[at] = value;
}

template <class Element>
__device__ __forceinline__ void load_four(const void* from, int64_t at, bool f32, float (&value)[4]) {
  if constexpr (Element::kDepth == 8)
    if (!f32) {
      const uint2 pairs = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(from) + at);
      value[0] = Element::low(pairs.x);
      value[1] = Element::high(pairs.x);
      value[2] = Element::low(pairs.y);
      value[3] = Element::high(pairs.y);
      return;
    }
  const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(from) + at);
  value[0] = four.x;
  value[1] = four.y;
  value[2] = four.z;
  value[3] = four.w;
}

template <class Element>
__device__ __forceinline__ void store_four(void* to, int64_t at, bool f32, const float (&value)[4]) {
  if constexpr (Element::kDepth == 8)
    if (!f32) {
      *reinterpret_cast<uint2*>(static_cast<uint16_t*>(to) + at) =
          make_uint2(Element::pack(value[0], value[1]), Element::pack(value[2], value[3]));
      return;
    }
  *reinterpret_cast<float4*>(static_cast<float*>(to) + at) =
      make_float4(value[0], value[1], value[2], value[3]);
}

template <class Element>
__device__ __forceinline__ void finish_four(const ConvolutionArguments& c, int64_t row, int output,
                                            float (&value)[4]) {
  const int64_t at = row * c.outputs + output;
  if (c.bias) {
    const float4 bias = *reinterpret_cast<const float4*>(c.bias + output);
    value[0] += bias.x;
    value[1] += bias.y;
    value[2] += bias.z;
    value[3] += bias.w;
  }
  if (c.residual) {
    float residual[4] = {0, 0, 0, 0};
    if (c.vector_stores) {
      load_four<Element>(c.residual, at, c.out_f32, residual);
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (output + i < c.outputs) residual[i] = load_one<Element>(c.residual, at + i, c.out_f32);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) value[i] += residual[i];
  }
  if (c.slope) {
    const float4 slope = *reinterpret_cast<const float4*>(c.slope + output);
    value[0] = value[0] > 0 ? value[0] : value[0] * slope.x;
    value[1] = value[1] > 0 ? value[1] : value[1] * slope.y;
    value[2] = value[2] > 0 ? value[2] : value[2] * slope.z;
    value[3] = value[3] > 0 ? value[3] : value[3] * slope.w;
  }
  if (c.vector_stores) {
    store_four<Element>(c.out, at, c.out_f32, value);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (output + i < c.outputs) store_one<Element>(c.out, at + i, c.out_f32, value[i]);
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    convolution_kernel(const ConvolutionArguments c) {
  char* const shared = simt::dynamic_shared();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int kWarpsAcross = Shape::kTileOutputs / Shape::kWarpOutputs;
  const int warp_row = warp / kWarpsAcross * Shape::kWarpRows;
  const int warp_output = warp % kWarpsAcross * Shape::kWarpOutputs;

  if (blockIdx.x == 0)
    for (int64_t i = threadIdx.x; i < c.zero_halves; i += Shape::kThreads) c.zero_row[i] = 0;

  const int64_t across = (c.groups * Shape::kGroup + Shape::kTileOutputs - 1) / Shape::kTileOutputs;
  const int64_t tiles = (c.count + Shape::kTileRows - 1) / Shape::kTileRows * across;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t first_row = tile / across * Shape::kTileRows;
    const int first_output = static_cast<int>(tile % across) * Shape::kTileOutputs;
    if (c.table[first_row * c.taps] == kPadding) break;  // and so are all later tiles

    TileLoader<Shape> loader{c, first_row, first_output / Shape::kGroup};
    WarpSums<Shape> sums;
    sums.clear();
    int loading = loader.next(0), step = loading;
    if (loading < c.steps) loader.look_up(loading);
#pragma unroll
    for (int stage = 0; stage < Shape::kStages - 1; stage++) {
      if (loading < c.steps) {
        loader.copy(loading, shared + stage * Shape::kStageBytes);
        loading = loader.next(loading + 1);
        if (loading < c.steps) loader.look_up(loading);
      }
      simt::commit_copies();
    }
    int read = 0, write = Shape::kStages - 1;
    while (step < c.steps) {
      simt::wait_for_copies<Shape::kStages - 2>();
      __syncthreads();  // everybody's copies are there, and everybody is done with the buffer written next
      if (loading < c.steps) {
        loader.copy(loading, shared + write * Shape::kStageBytes);
        loading = loader.next(loading + 1);
        if (loading < c.steps) loader.look_up(loading);
      }
      simt::commit_copies();
      const uint32_t occupied = loader.occupied(step);
      if constexpr (Shape::Multiply::kSeparateSums) {
        WarpSums<Shape> part;
        part.clear();
        part.multiply(shared + read * Shape::kStageBytes, warp_row, warp_output, occupied);
        sums.add(part);
      } else {
        sums.multiply(shared + read * Shape::kStageBytes, warp_row, warp_output, occupied);
      }
      step = loader.next(step + 1);
      read = read + 1 == Shape::kStages ? 0 : read + 1;
      write = write + 1 == Shape::kStages ? 0 : write + 1;
    }
    simt::wait_for_copies<0>();
    __syncthreads();  // before the next tile's copies

#pragma unroll
    for (int f = 0; f < Shape::kFragments; f++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64_t m = first_row + warp_row + 16 * f + 8 * half + lane / 4;
        if (m >= c.count || c.table[m * c.taps] == kPadding) continue;
        const int64_t row = c.out_rows ? c.out_rows[m] : m;
        if (row < 0 || row >= c.out_row_count) continue;
#pragma unroll
        for (int g = 0; g < Shape::kGroups; g++) {
          const int output = first_output + warp_output + Shape::kGroup * g + 4 * (lane % 4);
          float value[4] = {sums.sum[f][g][0][2 * half], sums.sum[f][g][0][2 * half + 1],
                            sums.sum[f][g][1][2 * half], sums.sum[f][g][1][2 * half + 1]};
          if (output < c.outputs) finish_four<typename Shape::Element>(c, row, output, value);
        }
      }
  }
}

inline ConvolutionArguments convolution_arguments(const CudaConvolution& c) {
  const CudaWeightLayout& layout = c.layout;
  ConvolutionArguments a{};
  a.rows = static_cast<const char*>(c.rows);
  a.row_count = c.row_count;
  a.row_bytes = layout.inputs * layout.element_bytes();
  a.table = c.table;
  a.count = c.count;
  a.taps = static_cast<int>(layout.taps);
  a.inputs = static_cast<int>(layout.inputs);
  a.outputs = static_cast<int>(layout.outputs);
  a.chunks_per_tap = static_cast<int>(layout.chunks_per_tap());
  a.steps = static_cast<int>(layout.steps());
  a.groups = static_cast<int>(layout.groups());
  a.weight = static_cast<const char*>(c.weight);
  a.occupancy = static_cast<const uint8_t*>(c.weight) + layout.weight_bytes();
  a.bias = c.bias;
  a.slope = c.slope;
  a.residual = c.residual;
  a.out_rows = c.out_rows;
  a.out_row_count = c.out_row_count;
  a.out = c.out;
  a.out_f32 = c.out_f32;
  a.vector_stores = layout.outputs % 4 == 0;
  a.zero_row = static_cast<uint16_t*>(c.zero_row);
  a.zero_halves = c.zero_row ? c.zero_bytes / 2 : 0;
  return a;
}

template <class Shape>
int64_t tiles_of(const CudaConvolution& c) {
  return (c.count + Shape::kTileRows - 1) / Shape::kTileRows *
         ((c.layout.padded_outputs() + Shape::kTileOutputs - 1) / Shape::kTileOutputs);
}

template <class Shape>
void run_convolution(const CudaQueue& queue, const CudaConvolution& c) {
  // As many blocks as the device holds at once, each of which takes tiles until they end; one at least, for
  // the zero row.
  const int64_t most = static_cast<int64_t>(queue.multiprocessors) * Shape::kBlocks,
                tiles = tiles_of<Shape>(c);
  const int64_t blocks = tiles < 1 ? 1 : tiles < most ? tiles : most;
  simt::launch(convolution_kernel<Shape>, blocks, Shape::kThreads, Shape::kSharedBytes, queue.stream,
               convolution_arguments(c));
}

// One of these for each element type, in a file of its own.
void run_convolution_bf16(const CudaQueue& queue, const CudaConvolution& c);
void run_convolution_f16(const CudaQueue& queue, const CudaConvolution& c);
void run_convolution_f32(const CudaQueue& queue, const CudaConvolution& c);

inline bool aligned_rows(const CudaConvolution& c) {
  return c.layout.inputs * c.layout.element_bytes() % 16 == 0;
}

// The 16-bit kernels: few outputs (the 9x9 tail), 64, or more; small tiles where there would be too few large
// ones for the device even if every cell were active.
template <class Multiply>
void run_convolution_half(const CudaQueue& queue, const CudaConvolution& c) {
  using Narrow = ConvolutionShape<Multiply, 128, 48, 32, 48, 3, 3, true, true>;
  using Usual = ConvolutionShape<Multiply, 128, 64, 32, 64, 3, 3, true, false>;
  using Wide = ConvolutionShape<Multiply, 128, 128, 64, 64, 3, 2, true, false>;
  using Small = ConvolutionShape<Multiply, 64, 64, 32, 32, 4, 3, true, false>;
  using Any = ConvolutionShape<Multiply, 64, 64, 32, 32, 3, 3, false, true>;
  const int64_t enough = 3 * static_cast<int64_t>(queue.multiprocessors);
  if (!aligned_rows(c) || (c.sparse_weight && c.layout.padded_outputs() > 48))
    run_convolution<Any>(queue, c);
  else if (c.layout.padded_outputs() <= 48)
    run_convolution<Narrow>(queue, c);
  else if (c.layout.padded_outputs() > 64 && tiles_of<Wide>(c) >= enough)
    run_convolution<Wide>(queue, c);
  else if (tiles_of<Usual>(c) >= enough)
    run_convolution<Usual>(queue, c);
  else
    run_convolution<Small>(queue, c);
}

}  // namespace pixeltier
