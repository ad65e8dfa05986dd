// The enlarged image: what networks say, held to the input, rounded to bytes.
#include "pixeltier/compose.h"
#include "pixeltier/cuda_kernels.h"
#include "simt.cuh"

namespace pixeltier {
namespace {

constexpr int kThreads = 256;
constexpr int kScale = 4, kColours = 3, kPixels = kScale * kScale * kColours;
constexpr int kTapsDown = 4 * kScale, kMargin = (kTapsDown - kScale) / 2;

// Keys, "Cubic convolution interpolation for digital image processing" (1981).
__device__ float keys(float a, float t) {
  t = t < 0 ? -t : t;
  if (t >= 2) return 0;
  return t < 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
}

__device__ int64_t cells_of(Grid grid) { return grid.images * grid.height * grid.width; }

__device__ int64_t clamped(int64_t at, int64_t size) { return at < 0 ? 0 : at < size ? at : size - 1; }

__device__ float within(float value, float least, float most) {  // a NaN to `least`
  value = value > least ? value : least;
  return value < most ? value : most;
}

// A pixel of the enlarged grid: its cell, and where among the cell's.
struct Pixel {
  int64_t image, row, column;
  int sub_row, sub_column;
};

__device__ Pixel pixel_at(int64_t at, Grid grid) {
  const int64_t width = kScale * grid.width, height = kScale * grid.height;
  const int64_t row = at / width % height, column = at % width;
  return {at / (height * width), row / kScale, column / kScale, static_cast<int>(row % kScale),
          static_cast<int>(column % kScale)};
}

// Bicubic with a = -0.75, edges repeated, of one plane [height, width].
__device__ float bicubic(const float* plane, Grid grid, const Pixel& p) {
  const float y = (static_cast<float>(p.sub_row) + 0.5f) / kScale - 0.5f,
              x = (static_cast<float>(p.sub_column) + 0.5f) / kScale - 0.5f;
  float value = 0;
#pragma unroll
  for (int i = -2; i <= 2; i++) {
    const float* line = plane + clamped(p.row + i, grid.height) * grid.width;
    float sum = 0;
#pragma unroll
    for (int j = -2; j <= 2; j++) sum += keys(-0.75f, j - x) * line[clamped(p.column + j, grid.width)];
    value += keys(-0.75f, i - y) * sum;
  }
  return value;
}

__device__ const float* plane_of(const float* planes, Grid grid, int64_t image, int colour) {
  return planes + (image * kColours + colour) * grid.height * grid.width;
}

// What networks say of a pixel, within the bounds that compose.h tells.
__device__ void bounded(const float* x, const float* pixels, Grid grid, const Pixel& p,
                        float (&said)[kColours]) {
  const float* own = pixels + ((p.image * grid.height + p.row) * grid.width + p.column) * kPixels +
                     (p.sub_row * kScale + p.sub_column) * kColours;
  float least[kColours], most[kColours];
  bool gray = true;
  for (int i = -1; i <= 1; i++)
    for (int j = -1; j <= 1; j++) {
      const int64_t at = clamped(p.row + i, grid.height) * grid.width + clamped(p.column + j, grid.width);
      const float first = plane_of(x, grid, p.image, 0)[at];
      for (int colour = 0; colour < kColours; colour++) {
        const float value = plane_of(x, grid, p.image, colour)[at];
        gray = gray && value == first;
        const bool start = i == -1 && j == -1;
        least[colour] = start || value < least[colour] ? value : least[colour];
        most[colour] = start || value > most[colour] ? value : most[colour];
      }
    }
  const float luma = kRed * own[0] + kGreen * own[1] + kBlue * own[2];
  for (int colour = 0; colour < kColours; colour++) {
    const float beyond = kFreedom * (most[colour] - least[colour]);
    said[colour] = within(gray ? luma : own[colour], least[colour] - beyond, most[colour] + beyond);
  }
}

// The image, with the enlargement of `detail`, planes of x's shape, added if there is any: float32
// [images, 4 * height, 4 * width, 3]. One thread a pixel.
__global__ void __launch_bounds__(kThreads)
    enlarge_kernel(const float* __restrict__ x, const float* __restrict__ detail,
                   const float* __restrict__ pixels, Grid grid, float* __restrict__ image) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= cells_of(grid) * kScale * kScale) return;
  const Pixel p = pixel_at(at, grid);
  float said[kColours];
  bounded(x, pixels, grid, p, said);
  for (int colour = 0; colour < kColours; colour++) {
    const float lacking = detail ? bicubic(plane_of(detail, grid, p.image, colour), grid, p) : 0;
    image[at * kColours + colour] = within(said[colour] + lacking, 0, 1);
  }
}

// How far that image is off once it is reduced, and its mean, planes of x's shape. One thread a value of x.
__global__ void __launch_bounds__(kThreads)
    error_kernel(const float* __restrict__ x, const float* __restrict__ image, Grid grid,
                 float* __restrict__ error, float* __restrict__ brightness) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= cells_of(grid) * kColours) return;
  const int64_t cells = grid.height * grid.width, plane = at / cells, row = at % cells / grid.width,
                column = at % grid.width, height = kScale * grid.height, width = kScale * grid.width;
  const int colour = static_cast<int>(plane % kColours);
  const float* own = image + plane / kColours * height * width * kColours + colour;
  float weight[kTapsDown], total = 0;
  for (int tap = 0; tap < kTapsDown; tap++)
    total += weight[tap] = keys(-0.5f, (static_cast<float>(tap) + 0.5f) / kScale - 2);
  float reduced = 0, mean = 0;
  for (int i = 0; i < kTapsDown; i++) {
    const float* line = own + clamped(kScale * row - kMargin + i, height) * width * kColours;
    float sum = 0;
    for (int j = 0; j < kTapsDown; j++) {
      const float value = line[clamped(kScale * column - kMargin + j, width) * kColours];
      sum += weight[j] / total * value;
      if (i >= kMargin && i < kMargin + kScale && j >= kMargin && j < kMargin + kScale) mean += value;
    }
    reduced += weight[i] / total * sum;
  }
  error[at] = x[at] - reduced;
  brightness[at] = mean / (kScale * kScale);
}

__device__ float binomial(int distance) {
  return distance == 0 ? kBinomialCentre : distance == 1 || distance == -1 ? kBinomialNear : kBinomialFar;
}

// The binomial mean around a cell, edges repeated.
__device__ float local_mean(const float* plane, Grid grid, int64_t row, int64_t column) {
  float mean = 0;
  for (int i = -2; i <= 2; i++) {
    const float* line = plane + clamped(row + i, grid.height) * grid.width;
    float sum = 0;
    for (int j = -2; j <= 2; j++) sum += binomial(j) * line[clamped(column + j, grid.width)];
    mean += binomial(i) * sum;
  }
  return mean;
}

// The local mean that is still missing, as a share of the room towards white or black: no clamping takes it
// back.
__global__ void __launch_bounds__(kThreads)
    pull_kernel(const float* __restrict__ error, const float* __restrict__ brightness, Grid grid,
                float* __restrict__ pull) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= cells_of(grid) * kColours) return;
  const int64_t cells = grid.height * grid.width, start = at / cells * cells, row = at % cells / grid.width,
                column = at % grid.width;
  const float drift = local_mean(error + start, grid, row, column),
              bright = local_mean(brightness + start, grid, row, column);
  const float room = drift > 0 ? 1 - bright : bright;
  pull[at] = within(drift / (room > kLeastRoom ? room : kLeastRoom), -1, 1);
}

// The corrected image. One thread a pixel.
__global__ void __launch_bounds__(kThreads)
    compose_kernel(const float* __restrict__ x, const float* __restrict__ pixels,
                   const float* __restrict__ detail, const float* __restrict__ pull, Grid grid,
                   uint8_t* __restrict__ image) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= cells_of(grid) * kScale * kScale) return;
  const Pixel p = pixel_at(at, grid);
  float said[kColours];
  bounded(x, pixels, grid, p, said);
  for (int colour = 0; colour < kColours; colour++) {
    float value = within(said[colour] + bicubic(plane_of(detail, grid, p.image, colour), grid, p), 0, 1);
    const float towards = bicubic(plane_of(pull, grid, p.image, colour), grid, p);
    value = within(value + towards * (towards > 0 ? 1 - value : value), 0, 1);
    image[at * kColours + colour] = static_cast<uint8_t>(rintf(value * 255));
  }
}

}  // namespace

int64_t compose_scratch(Grid grid) { return grid.cells() * (kPixels + 4 * kColours); }

void cuda_compose(const CudaQueue& queue, const float* x, const float* pixels, Grid grid, float* scratch,
                  uint8_t* image) {
  const int64_t values = grid.cells() * kColours;
  float *first = scratch, *error = first + grid.cells() * kPixels, *brightness = error + values,
        *detail = brightness + values, *pull = detail + values;
  auto blocks = [](int64_t threads) { return (threads + kThreads - 1) / kThreads; };
  const int64_t wide = blocks(grid.cells() * kScale * kScale), narrow = blocks(values);
  simt::launch(enlarge_kernel, wide, kThreads, 0, queue.stream, x, nullptr, pixels, grid, first);
  simt::launch(error_kernel, narrow, kThreads, 0, queue.stream, x, first, grid, detail, brightness);
  simt::launch(enlarge_kernel, wide, kThreads, 0, queue.stream, x, detail, pixels, grid, first);
  simt::launch(error_kernel, narrow, kThreads, 0, queue.stream, x, first, grid, error, brightness);
  simt::launch(pull_kernel, narrow, kThreads, 0, queue.stream, error, brightness, grid, pull);
  simt::launch(compose_kernel, wide, kThreads, 0, queue.stream, x, pixels, detail, pull, grid, image);
}

}  // namespace pixeltier
