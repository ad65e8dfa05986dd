// The enlarged image: bicubic x4 plus what the network adds, rounded to bytes. One thread an output pixel.
#include "pixeltier/cuda_kernels.h"
#include "simt.cuh"

namespace pixeltier {
namespace {

constexpr int kThreads = 256;
constexpr int kScale = 4, kColours = 3;

// Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.75, for the four
// neighbours at distances 1 + t, t, 1 - t, 2 - t.
__device__ void cubic_weights(float t, float (&weight)[4]) {
  constexpr float a = -0.75f;
  const float far = 1 + t, near = 1 - t, farthest = 2 - t;
  weight[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
  weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
  weight[2] = ((a + 2) * near - (a + 3)) * near * near + 1;
  weight[3] = ((a * farthest - 5 * a) * farthest + 8 * a) * farthest - 4 * a;
}

__device__ int64_t clamped(int64_t at, int64_t size) { return at < 0 ? 0 : at < size ? at : size - 1; }

__global__ void __launch_bounds__(kThreads)
    compose_kernel(const float* __restrict__ x, const float* __restrict__ pixels, Grid grid,
                   uint8_t* __restrict__ image) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t width = kScale * grid.width, height = kScale * grid.height;
  if (at >= grid.images * height * width) return;
  const int64_t n = at / (height * width), row = at / width % height, column = at % width;
  const int64_t cell_row = row / kScale, cell_column = column / kScale;
  const int sub_row = static_cast<int>(row % kScale), sub_column = static_cast<int>(column % kScale);
  // Centre of the output pixel among the input's, (i + 1/2) / 4 - 1/2, as whole and fraction.
  const float y = (static_cast<float>(sub_row) + 0.5f) / kScale - 0.5f,
              x_ = (static_cast<float>(sub_column) + 0.5f) / kScale - 0.5f;
  const int64_t top = cell_row + (y < 0 ? -1 : 0), left = cell_column + (x_ < 0 ? -1 : 0);
  float vertical[4], horizontal[4];
  cubic_weights(y < 0 ? y + 1 : y, vertical);
  cubic_weights(x_ < 0 ? x_ + 1 : x_, horizontal);

  const float* added = pixels + (((n * grid.height + cell_row) * grid.width + cell_column) * kScale * kScale +
                                 sub_row * kScale + sub_column) *
                                    kColours;
  for (int colour = 0; colour < kColours; colour++) {
    const float* plane = x + (n * kColours + colour) * grid.height * grid.width;
    float value = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* line = plane + clamped(top - 1 + i, grid.height) * grid.width;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 4; j++) sum += horizontal[j] * line[clamped(left - 1 + j, grid.width)];
      value += vertical[i] * sum;
    }
    value = rintf((value + added[colour]) * 255);
    value = value > 0 ? value : 0;  // NaN too
    image[at * kColours + colour] = static_cast<uint8_t>(value < 255 ? value : 255);
  }
}

}  // namespace

void cuda_compose(const CudaQueue& queue, const float* x, const float* pixels, Grid grid, uint8_t* image) {
  const int64_t threads = grid.cells() * kScale * kScale;
  simt::launch(compose_kernel, (threads + kThreads - 1) / kThreads, kThreads, 0, queue.stream, x, pixels,
               grid, image);
}

}  // namespace pixeltier
