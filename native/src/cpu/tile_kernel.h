// The sparse convolution in bf16 over matrix tiles, for a tile type T: rows_amx.cpp has the processor's,
// rows_amx_emulated.cpp one in software.
//
// A block is 32 rows x 32 outputs: tiles 0 to 3 hold its sums, 4 and 5 sixteen rows x 32 inputs each, 6 and 7
// 32 inputs x sixteen outputs each. A tile of rows is loaded straight from the features where its sixteen
// rows follow each other there, as they do within a line of an image; otherwise they are gathered first, once
// for all outputs. The order of additions for one output value is tap, then input, whatever block its row
// falls in.
//
// T provides
//   configure() release()              before and after use, on each thread
//   zero<tile>() multiply<to, a, b>()  sums[16][16] += a[16][32] * b[16][16][2]
//   load<tile>(p, stride) store<tile>(p, stride)                       16 lines of 64 bytes, `stride` bytes
//   apart
#pragma once

#include "avx512_bf16_vector.h"
#include "micro_kernel.h"
#include "thread_scratch.h"

namespace pixeltier {
namespace {

constexpr int64_t kTileRows = 16, kTileInputs = 32, kTileOutputs = 16;
constexpr int64_t kBlockRows = 2 * kTileRows;
constexpr WeightLayout kTileLayout{kTileOutputs, 2, 2, kTileInputs};

// Where a tile of rows is to be loaded from; no data where all of them are the zero row.
struct TileSource {
  const BFloat16* data;
  int64_t stride;  // bytes
};

inline void copy_row(const BFloat16* from, int64_t inputs, BFloat16* to, int64_t padded) {
  int64_t i = 0;
  for (; i + kTileInputs <= inputs; i += kTileInputs)
    _mm512_storeu_si512(to + i, _mm512_loadu_si512(from + i));
  if (i < padded) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << (inputs - i)) - 1);
    _mm512_storeu_si512(to + i, _mm512_maskz_loadu_epi16(mask, from + i));
  }
}

// One block of rows: where the tiles of every tap come from.
class RowBlock {
 public:
  // `gathered`: room for 32 rows of all taps. Rows past `count` read the zero row.
  RowBlock(const ConvArguments& a, int64_t first_row, int64_t count, BFloat16* gathered, TileSource* sources)
      : a_(a),
        first_row_(first_row),
        count_(count),
        padded_(kTileLayout.padded_inputs(a.inputs)),
        sources_(sources) {
    for (int64_t t = 0; t < a.taps; t++)
      for (int64_t tile = 0; tile * kTileRows < count; tile++)
        sources_[2 * t + tile] = locate(t, tile, gathered + (2 * t + tile) * kTileRows * padded_);
  }

  bool valid() const { return valid_; }
  TileSource source(int64_t tap, int64_t tile) const { return sources_[2 * tap + tile]; }

 private:
  TileSource locate(int64_t tap, int64_t tile, BFloat16* gathered) {
    const auto* rows = static_cast<const BFloat16*>(a_.rows);
    const auto last = static_cast<uint32_t>(a_.row_count);
    uint32_t number[kTileRows];
    bool any = false, run = true;
    for (int64_t r = 0; r < kTileRows; r++) {
      const int64_t i = tile * kTileRows + r;
      const uint32_t n =
          i < count_ ? static_cast<uint32_t>(a_.table[(first_row_ + i) * a_.taps + tap]) : last;
      valid_ &= n <= last;
      number[r] = n < last ? n : last;
      any |= n < last;
      run &= number[r] == number[0] + r;
    }
    if (!any) return {nullptr, 0};
    const int64_t row_bytes = a_.row_stride * static_cast<int64_t>(sizeof(BFloat16));
    if (run && padded_ == a_.inputs) return {rows + int64_t{number[0]} * a_.row_stride, row_bytes};
    for (int64_t r = 0; r < kTileRows; r++)
      copy_row(rows + int64_t{number[r]} * a_.row_stride, a_.inputs, gathered + r * padded_, padded_);
    return {gathered, padded_ * static_cast<int64_t>(sizeof(BFloat16))};
  }

  const ConvArguments& a_;
  int64_t first_row_, count_, padded_;
  TileSource* sources_;
  bool valid_ = true;
};

// Sums of row_tiles x column_tiles tiles over all taps, into sums[32][32].
template <class T, int row_tiles, int column_tiles>
void multiply_block(const RowBlock& block, int64_t taps, int64_t padded_inputs, const OutputBlock& outputs,
                    float* sums) {
  constexpr int64_t width = column_tiles * kTileOutputs, weight_stride = width * 2 * sizeof(BFloat16);
  static const BFloat16 zeros[kTileRows * kTileInputs] = {};
  T::template zero<0>();
  if constexpr (column_tiles > 1) T::template zero<1>();
  if constexpr (row_tiles > 1) T::template zero<2>();
  if constexpr (row_tiles > 1 && column_tiles > 1) T::template zero<3>();
  for (int64_t t = 0; t < taps; t++) {
    const TileSource top = block.source(t, 0), bottom = row_tiles > 1 ? block.source(t, 1) : TileSource{};
    const BFloat16* w = static_cast<const BFloat16*>(outputs.weight) + t * padded_inputs * width;
    const uint8_t* occupancy = outputs.occupancy + t * occupancy_runs(padded_inputs);
    if (!top.data && !bottom.data) continue;  // adding zeros changes nothing
    for (int64_t k = 0; k < padded_inputs; k += kTileInputs, w += kTileInputs * width) {
      if (!occupancy[k / kOccupancyInputs]) continue;
      T::template load<6>(w, weight_stride);
      if constexpr (column_tiles > 1) T::template load<7>(w + kTileOutputs * 2, weight_stride);
      T::template load<4>(top.data ? top.data + k : zeros, top.data ? top.stride : 64);
      T::template multiply<0, 4, 6>();
      if constexpr (column_tiles > 1) T::template multiply<1, 4, 7>();
      if constexpr (row_tiles > 1) {
        T::template load<5>(bottom.data ? bottom.data + k : zeros, bottom.data ? bottom.stride : 64);
        T::template multiply<2, 5, 6>();
        if constexpr (column_tiles > 1) T::template multiply<3, 5, 7>();
      }
    }
  }
  constexpr int64_t stride = 2 * kTileOutputs * sizeof(float);
  T::template store<0>(sums, stride);
  if constexpr (column_tiles > 1) T::template store<1>(sums + kTileOutputs, stride);
  if constexpr (row_tiles > 1) T::template store<2>(sums + kTileRows * 2 * kTileOutputs, stride);
  if constexpr (row_tiles > 1 && column_tiles > 1)
    T::template store<3>(sums + kTileRows * 2 * kTileOutputs + kTileOutputs, stride);
}

template <class T>
void multiply_block(const RowBlock& block, const ConvArguments& a, int64_t count, int64_t columns,
                    const OutputBlock& outputs, float* sums) {
  const int64_t padded = kTileLayout.padded_inputs(a.inputs);
  if (count > kTileRows)
    (columns > 1 ? multiply_block<T, 2, 2> : multiply_block<T, 2, 1>)(block, a.taps, padded, outputs, sums);
  else
    (columns > 1 ? multiply_block<T, 1, 2> : multiply_block<T, 1, 1>)(block, a.taps, padded, outputs, sums);
}

// Bias, residual, activation and store of the first `count` rows of sums[32][32].
template <bool full>
void finish_block(const ConvArguments& a, int64_t first_row, int64_t count, int64_t first_output,
                  int64_t columns, const float* sums) {
  for (int64_t c = 0; c < columns; c++) {
    const Epilogue<NativeBFloat16, full> epilogue(a, first_output + c * kTileOutputs);
    for (int64_t r = 0; r < count; r++) {
      const __m512 sum = _mm512_load_ps(sums + (2 * r + c) * kTileOutputs);
      a.special() ? epilogue.finish_special(first_row + r, sum) : epilogue.finish(first_row + r, sum);
    }
  }
}

template <class T>
bool run_tiles(const ConvArguments& a, Range rows, Range blocks) {
  const int64_t padded = kTileLayout.padded_inputs(a.inputs);
  const int64_t block_size = a.taps * padded * kTileLayout.block();
  BFloat16* gathered = thread_scratch<BFloat16>(kBlockRows * a.taps * padded);
  TileSource* sources = thread_scratch<TileSource>(2 * a.taps);
  alignas(64) float sums[kBlockRows * 2 * kTileOutputs];
  bool valid = true;
  T::configure();
  for (int64_t first = rows.begin; first < rows.end; first += kBlockRows) {
    const int64_t count = rows.end - first < kBlockRows ? rows.end - first : kBlockRows;
    const RowBlock block(a, first, count, gathered, sources);
    valid &= block.valid();
    for (int64_t b = blocks.begin; b < blocks.end; b++) {
      const OutputBlock outputs{b * kTileLayout.block(),
                                static_cast<const BFloat16*>(a.weight) + b * block_size,
                                a.occupancy + b * a.taps * occupancy_runs(a.inputs)};
      const int64_t columns = a.outputs - outputs.first > kTileOutputs ? 2 : 1;
      multiply_block<T>(block, a, count, columns, outputs, sums);
      if (outputs.first + columns * kTileOutputs <= a.outputs)
        finish_block<true>(a, first, count, outputs.first, columns, sums);
      else
        finish_block<false>(a, first, count, outputs.first, columns, sums);
    }
  }
  T::release();
  return valid;
}

template <class T>
int64_t spin_tiles(int64_t steps) {
  T::configure();
  T::template zero<4>();
  T::template zero<5>();
  T::template zero<6>();
  T::template zero<7>();
  for (int64_t s = 0; s < steps; s++) {
    T::template multiply<0, 4, 6>();
    T::template multiply<1, 4, 7>();
    T::template multiply<2, 5, 6>();
    T::template multiply<3, 5, 7>();
  }
  T::release();
  return steps * 4 * kTileRows * kTileOutputs * kTileInputs;
}

template <class T>
constexpr RowKernel make_tile_kernel(Isa isa) {
  return {isa, Element::bf16, kTileLayout, kBlockRows, &run_tiles<T>, nullptr, &spin_tiles<T>};
}

}  // namespace
}  // namespace pixeltier
