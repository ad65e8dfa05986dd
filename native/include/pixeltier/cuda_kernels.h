// The CUDA kernels as functions over device pointers. Torch-free; every call only puts work on a stream.
//
// Lists may be *padded*: an active list of fixed length whose entries from some place on are kPadding, and
// tables made from it, whose rows from there on are kPadding throughout. Kernels stop at the first padded
// row, so grids are fixed while the count stays on the device: nothing waits for the host, and CUDA graphs
// can replay it. Rows of results beyond the count are not written.
#pragma once

#include <cstdint>

#include "pixeltier/cuda_layout.h"
#include "pixeltier/plan.h"

namespace pixeltier {

constexpr int32_t kPadding = -1;

// Where work goes, and how wide the device is.
struct CudaQueue {
  void* stream;  // cudaStream_t
  int multiprocessors;
};

// How many a device has.
int cuda_multiprocessors(int device);

// Bytes of working memory of cuda_plan for `images` of `cells` each.
int64_t cuda_plan_scratch_bytes(int64_t images, int64_t cells);

// The active list of a batch, padded to images * cells, and how many cells of each image are active.
// value >= threshold[image], and where keep_best is set also the image's first maximum. NaN is never active.
void cuda_plan(const CudaQueue& queue, const float* importance, const float* threshold, bool keep_best,
               int64_t images, int64_t cells, void* scratch, int32_t* active, int32_t* counts);

// As the functions of plan.h. Entries of `active` that are not a cell of the output grid make a padded row.
void cuda_dense_table(const CudaQueue& queue, const int32_t* active, int64_t count, Grid input,
                      int64_t kernel, int64_t stride, int32_t* table);
// `position` is working memory of grid.cells() numbers.
void cuda_packed_table(const CudaQueue& queue, const int32_t* active, int64_t count, Grid grid,
                       int64_t kernel, int32_t* position, int32_t* table);
void cuda_child_table(const CudaQueue& queue, const int32_t* parent, int64_t count, int64_t parent_kernel,
                      int64_t kernel, int32_t* table);

// out[i] = rows[active[i]], rows of `bytes` (a multiple of 4); a last row of zeros at `count`.
void cuda_gather_rows(const CudaQueue& queue, const void* rows, int64_t row_count, const int32_t* active,
                      int64_t count, int64_t bytes, void* out);

// How 32-bit floats are multiplied on tensor cores: rounded to TF32, or as three products of TF32 parts that
// together keep a float's precision (Ootomo and Yokota, arXiv 2203.03341).
enum class FloatMath { tf32, tf32x3 };

// out[out_rows[i]] = activate(sum over t of weight[t] * rows[table[i, t]] + bias + residual[out_rows[i]]).
// A table entry outside of [0, row_count) reads zeros. Rows are channels last and contiguous.
struct CudaConvolution {
  const void* rows;
  int64_t row_count;
  const int32_t* table;  // [count, taps]
  int64_t count;
  CudaWeightLayout layout;
  FloatMath math;      // of f32
  bool sparse_weight;  // many weights are zero by construction: consult the occupancy
  const void* weight;
  const float* bias;        // null: none; padded to layout.padded_outputs()
  const float* slope;       // null: identity; PReLU otherwise (zeros: ReLU)
  const void* residual;     // null: none; of the type of `out`
  const int32_t* out_rows;  // null: row i
  int64_t out_row_count;    // rows of `out` that may be written
  void* out;
  bool out_f32;        // `out` and `residual` are float32 whatever the rows are
  void* zero_row;      // null, or a row of `zero_bytes` to clear: the result's last one
  int64_t zero_bytes;  // a multiple of 2
};
void cuda_convolution(const CudaQueue& queue, const CudaConvolution& convolution);

// See compose_rows: the enlarged image uint8 [images, 4 * height, 4 * width, 3] of x and pixels. `scratch`
// holds compose_scratch(grid) floats.
int64_t compose_scratch(Grid grid);
void cuda_compose(const CudaQueue& queue, const float* x, const float* pixels, Grid grid, float* scratch,
                  uint8_t* image);

}  // namespace pixeltier
