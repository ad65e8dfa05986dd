// Active lists, built in two passes over the importance: how many cells of each block are active, then which.
#include "pixeltier/cuda_kernels.h"
#include "simt.cuh"

namespace pixeltier {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kItems = 8;  // consecutive cells of a thread
constexpr int kBlockCells = kThreads * kItems;

int64_t blocks_of(int64_t cells) { return (cells + kBlockCells - 1) / kBlockCells; }

struct Plan {
  const float* importance;
  const float* threshold;
  unsigned long long* best;  // null: an image's best cell has no privilege
  int64_t cells;             // of an image
  int blocks_per_image;
  int32_t* block_counts;
  int32_t* active;
  int32_t* counts;
};

// The sum of what the threads bring; every thread gets it.
__device__ int block_sum(int value) {
  __shared__ int sums[kWarps];
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffff, value, lanes);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  int sum = 0;
  for (int warp = 0; warp < kWarps; warp++) sum += sums[warp];
  return sum;
}

// A key that orders by value, then by earlier cell; 0 for NaN. Equal values have equal keys: -0 becomes 0.
__device__ unsigned long long key_of(float value, int64_t cell) {
  if (!(value == value)) return 0;
  const uint32_t bits = __float_as_uint(value + 0.0f);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(cell));
}

__global__ void __launch_bounds__(kThreads) best_kernel(const Plan plan) {
  const int64_t image = blockIdx.x / plan.blocks_per_image, block = blockIdx.x % plan.blocks_per_image;
  const float* importance = plan.importance + image * plan.cells;
  unsigned long long best = 0;
  for (int item = 0; item < kItems; item++) {
    const int64_t cell = block * kBlockCells + item * kThreads + threadIdx.x;
    if (cell >= plan.cells) break;
    const unsigned long long key = key_of(importance[cell], cell);
    if (key > best) best = key;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffff, best, lanes);
    if (other > best) best = other;
  }
  if (threadIdx.x % 32 == 0) atomicMax(plan.best + image, best);
}

// Bit i: whether the thread's cell first + i is active.
__device__ uint32_t active_bits(const Plan& plan, int64_t image, int64_t first) {
  const float* importance = plan.importance + image * plan.cells;
  const float threshold = plan.threshold[image];
  uint32_t bits = 0;
  for (int item = 0; item < kItems; item++)
    if (first + item < plan.cells && importance[first + item] >= threshold) bits |= 1u << item;
  if (plan.best && plan.best[image]) {
    const int64_t best = 0xffffffffu - static_cast<uint32_t>(plan.best[image]);
    if (best >= first && best < first + kItems) bits |= 1u << (best - first);
  }
  return bits;
}

__global__ void __launch_bounds__(kThreads) count_kernel(const Plan plan) {
  const int64_t image = blockIdx.x / plan.blocks_per_image, block = blockIdx.x % plan.blocks_per_image;
  const int count = block_sum(
      __popc(active_bits(plan, image, block * kBlockCells + static_cast<int64_t>(threadIdx.x) * kItems)));
  if (threadIdx.x == 0) {
    plan.block_counts[blockIdx.x] = count;
    atomicAdd(plan.counts + image, count);
  }
}

__global__ void __launch_bounds__(kThreads) write_kernel(const Plan plan) {
  __shared__ int warp_counts[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int before = 0;
  for (unsigned block = threadIdx.x; block < blockIdx.x; block += kThreads)
    before += plan.block_counts[block];
  int at = block_sum(before);

  const int64_t image = blockIdx.x / plan.blocks_per_image, block = blockIdx.x % plan.blocks_per_image;
  const int64_t first = block * kBlockCells + static_cast<int64_t>(threadIdx.x) * kItems;
  const uint32_t bits = active_bits(plan, image, first);
  int upto = __popc(bits);  // of the lanes up to this one
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int lower = __shfl_up_sync(0xffffffff, upto, lanes);
    if (lane >= lanes) upto += lower;
  }
  if (lane == 31) warp_counts[warp] = upto;
  __syncthreads();
  for (int other = 0; other < warp; other++) at += warp_counts[other];
  at += upto - __popc(bits);
  for (int item = 0; item < kItems; item++)
    if (bits >> item & 1) plan.active[at++] = static_cast<int32_t>(image * plan.cells + first + item);
}

}  // namespace

int64_t cuda_plan_scratch_bytes(int64_t images, int64_t cells) {
  return images * static_cast<int64_t>(sizeof(unsigned long long)) +
         images * blocks_of(cells) * static_cast<int64_t>(sizeof(int32_t));
}

void cuda_plan(const CudaQueue& queue, const float* importance, const float* threshold, bool keep_best,
               int64_t images, int64_t cells, void* scratch, int32_t* active, int32_t* counts) {
  auto* const best = static_cast<unsigned long long*>(scratch);
  const Plan plan{importance,
                  threshold,
                  keep_best ? best : nullptr,
                  cells,
                  static_cast<int>(blocks_of(cells)),
                  reinterpret_cast<int32_t*>(best + images),
                  active,
                  counts};
  const int64_t blocks = images * plan.blocks_per_image;
  simt::fill(active, 0xff, images * cells * static_cast<int64_t>(sizeof(int32_t)), queue.stream);  // kPadding
  simt::fill(counts, 0, images * static_cast<int64_t>(sizeof(int32_t)), queue.stream);
  if (keep_best) {
    simt::fill(best, 0, images * static_cast<int64_t>(sizeof(unsigned long long)), queue.stream);
    simt::launch(best_kernel, blocks, kThreads, 0, queue.stream, plan);
  }
  simt::launch(count_kernel, blocks, kThreads, 0, queue.stream, plan);
  simt::launch(write_kernel, blocks, kThreads, 0, queue.stream, plan);
}

}  // namespace pixeltier
