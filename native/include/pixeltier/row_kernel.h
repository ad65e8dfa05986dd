// The sparse convolution as one function over raw pointers, chosen from a table by instruction set and
// element type. Torch-free.
#pragma once

#include <cstdint>

#include "pixeltier/instruction_sets.h"

namespace pixeltier {

enum class Element { f32, bf16 };

// Storage of a bfloat16: the upper half of a float.
struct BFloat16 {
  uint16_t bits;
};

// What becomes of a sum y (bias included) and its residual x.
enum class Activation {
  prelu,  // y + x, times slope where that is negative; identity without slopes
  silu,   // v * sigmoid(v) of v = y + x
  gate,   // (y + x) * (sigmoid(y) - 1/2)
};

// out[out_rows[i]] = activate(sum over t of weight[t] * rows[table[i, t]] + bias +
// residual[residual_rows[i]]). All rows are channels last. bias and slope are padded with
// zeros to the layout's outputs.
struct ConvArguments {
  const void* rows;      // [row_count + 1, inputs], the last row is zero
  int64_t row_stride;    // elements from one row to the next; rows may overlap
  int64_t row_count;     // also the number of the zero row
  const int32_t* table;  // [n, taps]
  int64_t taps;
  int64_t inputs;
  int64_t outputs;
  const void* weight;            // packed by pack_weight for the same kernel
  const uint8_t* occupancy;      // behind the weights
  const float* bias;             // null: none
  const float* slope;            // null: identity; PReLU otherwise (zeros: ReLU)
  const void* residual;          // null: none; rows of `outputs`
  const int32_t* residual_rows;  // null: row i
  void* out;
  const int32_t* out_rows;  // null: row i
  Activation activation;
  bool float_out;  // `out` holds floats, whatever the rows hold

  // Whether the result needs more than bias, residual, slope and a store.
  bool special() const { return activation != Activation::prelu || float_out; }
};

// The same by Winograd's F(m x m, 3x3), m = 2 or 4, in tiles of up to m * m output rows: conv.table is
// [tiles, (m + 2)^2], the rows of each tile's input patch, conv.taps is (m + 2)^2 and the weights are
// transformed ones; out[out_rows[i]] is computed for each i that `outputs` names.
struct TileArguments {
  ConvArguments conv;
  const int32_t* outputs;  // [tiles, m * m] in raster order; -1: not wanted
};

// The side of tiles that the rows of a table of that many taps are for, 0 where there are no such tiles.
constexpr int64_t tile_side(int64_t taps) { return taps == 16 ? 2 : taps == 36 ? 4 : 0; }

struct Range {
  int64_t begin, end;
};

// Weights are often zero by construction, where a convolution is embedded in a larger one. The occupancy of a
// packed weight has a byte for each [output block][tap][run of inputs]: bit v is set where the block's vector
// v of outputs has any weight but zero in that run. Kernels skip the others.
constexpr int64_t kOccupancyInputs = 64;

constexpr int64_t occupancy_runs(int64_t inputs) {
  return (inputs + kOccupancyInputs - 1) / kOccupancyInputs;
}

// How a kernel wants its weights: [output block][tap][input / depth][block outputs][depth]. A block has
// `lanes * vectors` outputs; the last one has as few multiples of `lanes` as hold what is left. Inputs are
// padded with zeros to a multiple of `input_multiple`, itself a multiple of depth.
struct WeightLayout {
  int64_t lanes, vectors, depth, input_multiple;

  int64_t block() const { return lanes * vectors; }
  int64_t blocks(int64_t outputs) const { return (outputs + block() - 1) / block(); }
  int64_t padded_outputs(int64_t outputs) const { return (outputs + lanes - 1) / lanes * lanes; }
  int64_t padded_inputs(int64_t inputs) const {
    return (inputs + input_multiple - 1) / input_multiple * input_multiple;
  }
  int64_t weights(int64_t outputs, int64_t taps, int64_t inputs) const {
    return padded_outputs(outputs) * taps * padded_inputs(inputs);
  }
  int64_t occupancy_bytes(int64_t outputs, int64_t taps, int64_t inputs) const {
    return blocks(outputs) * taps * occupancy_runs(inputs);
  }
  // Elements of a packed weight: the weights, then the occupancy.
  int64_t size(int64_t outputs, int64_t taps, int64_t inputs, Element element) const {
    const int64_t bytes = element == Element::f32 ? 4 : 2;
    return weights(outputs, taps, inputs) + (occupancy_bytes(outputs, taps, inputs) + bytes - 1) / bytes;
  }
};

struct RowKernel {
  Isa isa;
  Element element;
  WeightLayout layout;
  int64_t rows;  // rows of one register block
  // Computes the output blocks `blocks` of the rows `rows`. Never reads outside of `rows`: a table entry
  // beyond row_count is read as the zero row, and makes the answer false.
  bool (*run)(const ConvArguments& arguments, Range rows, Range blocks);
  // Computes all outputs of the tiles `tiles`, as `run` does; null where rows are faster. Tiles of 4x4 are
  // for f32.
  bool (*run_tiles)(const TileArguments& arguments, Range tiles);
  // Register-only multiply-adds, `steps` blocks of them; returns how many: the peak that `run` is measured
  // against.
  int64_t (*spin)(int64_t steps);
};

// The kernel that `isa` uses for `element`; null where this build or this processor has none.
const RowKernel* find_row_kernel(Isa isa, Element element);

// Of every kernel of this build, whether this processor can run it or not.
std::vector<KernelChoice> row_kernel_choices();

// Lays out weight [outputs, inputs, taps] (float); output o of the packed order is output_order[o] of the
// weight.
void pack_weight(const float* weight, const int64_t* output_order, int64_t outputs, int64_t inputs,
                 int64_t taps, const WeightLayout& layout, Element element, void* packed);

}  // namespace pixeltier
