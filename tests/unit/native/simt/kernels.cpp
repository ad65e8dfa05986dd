// The CUDA kernels' functions for ctypes; emulated.py builds them with every operation of the machine in
// software.
#include "pixeltier/cuda_kernels.h"
#include "simt.h"

using pixeltier::CudaConvolution;
using pixeltier::CudaElement;
using pixeltier::CudaQueue;
using pixeltier::CudaWeightLayout;
using pixeltier::FloatMath;
using pixeltier::Grid;

namespace {
CudaQueue queue{nullptr, 1};
thread_local std::string last_failure;

template <typename Call>
const char* guarded(Call call) {
  try {
    call();
    return nullptr;
  } catch (const std::exception& error) {
    last_failure = error.what();
    return last_failure.c_str();
  }
}
}  // namespace

extern "C" {

void simt_configure(int multiprocessors, bool late_copies, bool descending) {
  queue.multiprocessors = multiprocessors;
  pixeltier::simt::freedom = {late_copies, descending};
}

int64_t simt_packed_size(int64_t outputs, int64_t taps, int64_t inputs, int element) {
  return CudaWeightLayout{outputs, taps, inputs, static_cast<CudaElement>(element)}.size();
}

void simt_pack_weight(const float* weight, const int64_t* order, int64_t outputs, int64_t taps,
                      int64_t inputs, int element, void* packed) {
  pixeltier::pack_cuda_weight(
      weight, order, CudaWeightLayout{outputs, taps, inputs, static_cast<CudaElement>(element)}, packed);
}

int64_t simt_plan_scratch_bytes(int64_t images, int64_t cells) {
  return pixeltier::cuda_plan_scratch_bytes(images, cells);
}

const char* simt_plan(const float* importance, const float* threshold, bool keep_best, int64_t images,
                      int64_t cells, void* scratch, int32_t* active, int32_t* counts) {
  return guarded([&] {
    pixeltier::cuda_plan(queue, importance, threshold, keep_best, images, cells, scratch, active, counts);
  });
}

const char* simt_dense_table(const int32_t* active, int64_t count, int64_t images, int64_t height,
                             int64_t width, int64_t kernel, int64_t stride, int32_t* table) {
  return guarded([&] {
    pixeltier::cuda_dense_table(queue, active, count, {images, height, width}, kernel, stride, table);
  });
}

const char* simt_packed_table(const int32_t* active, int64_t count, int64_t images, int64_t height,
                              int64_t width, int64_t kernel, int32_t* position, int32_t* table) {
  return guarded([&] {
    pixeltier::cuda_packed_table(queue, active, count, {images, height, width}, kernel, position, table);
  });
}

const char* simt_child_table(const int32_t* parent, int64_t count, int64_t parent_kernel, int64_t kernel,
                             int32_t* table) {
  return guarded([&] { pixeltier::cuda_child_table(queue, parent, count, parent_kernel, kernel, table); });
}

const char* simt_gather_rows(const void* rows, int64_t row_count, const int32_t* active, int64_t count,
                             int64_t bytes, void* out) {
  return guarded([&] { pixeltier::cuda_gather_rows(queue, rows, row_count, active, count, bytes, out); });
}

const char* simt_compose(const float* x, const float* pixels, int64_t images, int64_t height, int64_t width,
                         uint8_t* image) {
  return guarded([&] {
    const Grid grid{images, height, width};
    std::vector<float> scratch(pixeltier::compose_scratch(grid));
    pixeltier::cuda_compose(queue, x, pixels, grid, scratch.data(), image);
  });
}

const char* simt_convolution(const void* rows, int64_t row_count, const int32_t* table, int64_t count,
                             int64_t outputs, int64_t taps, int64_t inputs, int element, bool exact,
                             bool sparse_weight, const void* weight, const float* bias, const float* slope,
                             const void* residual, const int32_t* out_rows, int64_t out_row_count, void* out,
                             bool out_f32, void* zero_row, int64_t zero_bytes) {
  CudaConvolution c{};
  c.rows = rows;
  c.row_count = row_count;
  c.table = table;
  c.count = count;
  c.layout = {outputs, taps, inputs, static_cast<CudaElement>(element)};
  c.math = exact ? FloatMath::tf32x3 : FloatMath::tf32;
  c.sparse_weight = sparse_weight;
  c.weight = weight;
  c.bias = bias;
  c.slope = slope;
  c.residual = residual;
  c.out_rows = out_rows;
  c.out_row_count = out_row_count;
  c.out = out;
  c.out_f32 = out_f32;
  c.zero_row = zero_row;
  c.zero_bytes = zero_bytes;
  return guarded([&] { pixeltier::cuda_convolution(queue, c); });
}

}  // extern "C"
