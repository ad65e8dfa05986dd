// Row tables, one thread an entry.
#include "pixeltier/cuda_kernels.h"
#include "simt.cuh"

namespace pixeltier {
namespace {

constexpr int kThreads = 256;

int64_t blocks_of(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

__device__ int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }

__global__ void __launch_bounds__(kThreads)
    dense_table_kernel(const int32_t* __restrict__ active, int64_t count, Grid input, int kernel, int stride,
                       int32_t* __restrict__ table) {
  const int taps = kernel * kernel, pad = kernel / 2;
  const int64_t entry = thread_number();
  if (entry >= count * taps) return;
  const int64_t width = (input.width - 1) / stride + 1, height = (input.height - 1) / stride + 1;
  const int64_t cell = active[entry / taps];
  if (cell < 0 || cell >= input.images * height * width) {
    table[entry] = kPadding;
    return;
  }
  const int tap = static_cast<int>(entry % taps);
  const int64_t x = cell % width * stride + tap % kernel - pad,
                y = cell / width % height * stride + tap / kernel - pad, image = cell / (width * height);
  const bool inside = x >= 0 && x < input.width && y >= 0 && y < input.height;
  table[entry] = static_cast<int32_t>(
      (inside ? image * input.height + y : input.images * input.height) * input.width + (inside ? x : 0));
}

__global__ void __launch_bounds__(kThreads) position_kernel(const int32_t* __restrict__ active, int64_t count,
                                                            int64_t cells, int32_t* __restrict__ position) {
  const int64_t row = thread_number();
  if (row >= count) return;
  const int64_t cell = active[row];
  if (cell >= 0 && cell < cells) position[cell] = static_cast<int32_t>(row);
}

__global__ void __launch_bounds__(kThreads)
    packed_table_kernel(const int32_t* __restrict__ active, int64_t count, Grid grid, int kernel,
                        const int32_t* __restrict__ position, int32_t* __restrict__ table) {
  const int taps = kernel * kernel, pad = kernel / 2;
  const int64_t entry = thread_number();
  if (entry >= count * taps) return;
  const int64_t cell = active[entry / taps];
  if (cell < 0 || cell >= grid.images * grid.height * grid.width) {
    table[entry] = kPadding;
    return;
  }
  const int tap = static_cast<int>(entry % taps), dx = tap % kernel - pad, dy = tap / kernel - pad;
  const int64_t x = cell % grid.width + dx, y = cell / grid.width % grid.height + dy;
  int32_t row = -1;
  if (x >= 0 && x < grid.width && y >= 0 && y < grid.height) row = position[cell + dy * grid.width + dx];
  table[entry] = row < 0 ? static_cast<int32_t>(count) : row;
}

__global__ void __launch_bounds__(kThreads)
    child_table_kernel(const int32_t* __restrict__ parent, int64_t count, int parent_kernel, int kernel,
                       int32_t* __restrict__ table) {
  const int taps = kernel * kernel, pad = kernel / 2, parent_pad = parent_kernel / 2;
  const int64_t entry = thread_number();
  if (entry >= 4 * count * taps) return;
  const int tap = static_cast<int>(entry % taps), child = static_cast<int>(entry / taps % 4);
  const int32_t* from = parent + entry / (4 * taps) * parent_kernel * parent_kernel;
  if (from[0] == kPadding) {
    table[entry] = kPadding;
    return;
  }
  const int y = child / 2 + tap / kernel - pad, x = child % 2 + tap % kernel - pad;
  // Floor of a half, offset to be of something that is not negative.
  const int64_t row = from[(y + 2 * parent_pad) / 2 * parent_kernel + (x + 2 * parent_pad) / 2];
  const bool present = row >= 0 && row < count;
  table[entry] = static_cast<int32_t>(present ? 4 * row + 2 * (y & 1) + (x & 1) : 4 * count);
}

__global__ void __launch_bounds__(kThreads)
    gather_kernel(const uint32_t* __restrict__ rows, int64_t row_count, const int32_t* __restrict__ active,
                  int64_t count, int64_t words, uint32_t* __restrict__ out) {
  const int64_t at = thread_number(), row = at / words;
  if (row > count) return;
  const int64_t from = row < count ? active[row] : row_count;
  if (from == kPadding) return;
  out[at] = from >= 0 && from < row_count ? rows[from * words + at % words] : 0;
}

}  // namespace

void cuda_dense_table(const CudaQueue& queue, const int32_t* active, int64_t count, Grid input,
                      int64_t kernel, int64_t stride, int32_t* table) {
  simt::launch(dense_table_kernel, blocks_of(count * kernel * kernel), kThreads, 0, queue.stream, active,
               count, input, kernel, stride, table);
}

void cuda_packed_table(const CudaQueue& queue, const int32_t* active, int64_t count, Grid grid,
                       int64_t kernel, int32_t* position, int32_t* table) {
  simt::fill(position, 0xff, grid.cells() * static_cast<int64_t>(sizeof(int32_t)), queue.stream);
  simt::launch(position_kernel, blocks_of(count), kThreads, 0, queue.stream, active, count, grid.cells(),
               position);
  simt::launch(packed_table_kernel, blocks_of(count * kernel * kernel), kThreads, 0, queue.stream, active,
               count, grid, kernel, position, table);
}

void cuda_child_table(const CudaQueue& queue, const int32_t* parent, int64_t count, int64_t parent_kernel,
                      int64_t kernel, int32_t* table) {
  simt::launch(child_table_kernel, blocks_of(4 * count * kernel * kernel), kThreads, 0, queue.stream, parent,
               count, parent_kernel, kernel, table);
}

void cuda_gather_rows(const CudaQueue& queue, const void* rows, int64_t row_count, const int32_t* active,
                      int64_t count, int64_t bytes, void* out) {
  const int64_t words = bytes / 4;
  simt::launch(gather_kernel, blocks_of((count + 1) * words), kThreads, 0, queue.stream,
               static_cast<const uint32_t*>(rows), row_count, active, count, words,
               static_cast<uint32_t*>(out));
}

}  // namespace pixeltier
