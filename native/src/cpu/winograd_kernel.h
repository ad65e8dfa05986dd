// A 3x3 convolution by Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for Convolutional Neural
// Networks", arXiv 1509.09308): F(2x2, 3x3), sixteen products for four outputs instead of thirty-six, and
// F(4x4, 3x3), thirty-six for sixteen instead of 144, whose transforms need float32 (winograd_transform.h).
//
// Works on tiles of 2x2 or 4x4 outputs over the vector types of micro_kernel.h. A few tiles at a time, their
// inputs are transformed into one matrix [tile, input] for each point, each is multiplied with its own
// [input, output] matrix of transformed weights, and the products are transformed back into rows. The order
// of additions for one output value depends on nothing but its tile.
#pragma once

#include "micro_kernel.h"
#include "thread_scratch.h"
#include "winograd_transform.h"

namespace pixeltier {
namespace {

// Some tiles that pass through all steps together, small enough for the second-level cache.
template <class V, class Transform>
class TileGroup {
 public:
  using Element = typename V::Element;
  static constexpr int kPoints = Transform::kPoints, kTileRows = Transform::kOutputs;
  static constexpr int64_t kMost = 2 * V::rows;
  static constexpr int64_t kBlock = int64_t{V::lanes} * V::vectors;

  TileGroup(const TileArguments& a)
      : a_(a),
        stride_((a.conv.inputs + V::lanes - 1) / V::lanes * V::lanes),
        products_(reinterpret_cast<float*>(thread_scratch<char>(bytes(stride_)))),
        patches_(reinterpret_cast<Element*>(products_ + kPoints * kMost * kBlock)) {}

  // Tiles [first, first + count), count <= kMost. False where the table names a row that does not exist.
  bool run(int64_t first, int64_t count) {
    first_ = first;
    count_ = count;
    bool valid = true;
    for (int64_t t = 0; t < count; t++) valid &= load_tile(t);
    const ConvArguments& c = a_.conv;
    const int64_t depth_inputs = (c.inputs + V::depth - 1) / V::depth * V::depth;
    const int64_t block_size = kPoints * depth_inputs * kBlock;
    const int64_t blocks = (c.outputs + kBlock - 1) / kBlock;
    for (int64_t b = 0; b < blocks; b++) {
      const OutputBlock outputs{b * kBlock, static_cast<const Element*>(c.weight) + b * block_size,
                                c.occupancy + b * kPoints * occupancy_runs(c.inputs)};
      const int64_t left = (c.outputs - outputs.first + V::lanes - 1) / V::lanes;
      if (left >= V::vectors)
        run_block<V::vectors>(outputs, depth_inputs);
      else
        run_block<1>(outputs, depth_inputs);
    }
    return valid;
  }

 private:
  static int64_t bytes(int64_t stride) {
    return kPoints * kMost *
           (kBlock * static_cast<int64_t>(sizeof(float)) + stride * static_cast<int64_t>(sizeof(Element)));
  }

  Element* patch(int64_t point, int64_t tile) { return patches_ + (point * kMost + tile) * stride_; }

  bool load_tile(int64_t t) {
    const ConvArguments& c = a_.conv;
    const auto last = static_cast<uint32_t>(c.row_count);
    const Element* row[kPoints];
    bool valid = true;
    for (int k = 0; k < kPoints; k++) {
      const auto number = static_cast<uint32_t>(c.table[(first_ + t) * kPoints + k]);
      valid &= number <= last;
      row[k] = static_cast<const Element*>(c.rows) + int64_t{number < last ? number : last} * c.row_stride;
    }
    int64_t i = 0;
    for (; i + V::lanes <= c.inputs; i += V::lanes)
      transform(t, i, [&](int k) { return V::load(row[k] + i); });
    if (i < c.inputs) transform(t, i, [&](int k) { return V::load(row[k] + i, c.inputs - i); });
    return valid;
  }

  template <class Load>
  void transform(int64_t t, int64_t i, Load load) {
    typename V::Sum d[kPoints];
    Transform::template patch<V>(load, d);
    PIXELTIER_UNROLL
    for (int k = 0; k < kPoints; k++) V::store(patch(k, t) + i, d[k]);
  }

  template <int kVectors>
  void run_block(const OutputBlock& outputs, int64_t depth_inputs) {
    const auto* weight = static_cast<const Element*>(outputs.weight);
    const uint8_t* occupancy = outputs.occupancy;
    const int64_t parts = (count_ + V::rows - 1) / V::rows;
    for (int point = 0; point < kPoints; point++) {
      for (int64_t p = 0; p < parts; p++) {
        const int64_t begin = count_ * p / parts, end = count_ * (p + 1) / parts;
        multiply<kVectors>(end - begin, point, begin, weight, occupancy,
                           std::make_integer_sequence<int, V::rows>());
      }
      weight += depth_inputs * kVectors * V::lanes;
      occupancy += occupancy_runs(a_.conv.inputs);
    }
    const bool full = outputs.first + kVectors * V::lanes <= a_.conv.outputs;
    if (a_.conv.special())
      full ? store<kVectors, true, true>(outputs.first) : store<kVectors, false, true>(outputs.first);
    else
      full ? store<kVectors, true, false>(outputs.first) : store<kVectors, false, false>(outputs.first);
  }

  template <int kVectors, int... kRows>
  void multiply(int64_t rows, int point, int64_t tile, const Element* weight, const uint8_t* occupancy,
                std::integer_sequence<int, kRows...>) {
    using Multiply = void (TileGroup::*)(int, int64_t, const Element*, const uint8_t*);
    static constexpr Multiply functions[] = {&TileGroup::multiply_rows<kRows + 1, kVectors>...};
    (this->*functions[rows - 1])(point, tile, weight, occupancy);
  }

  template <int kRows, int kVectors>
  void multiply_rows(int point, int64_t tile, const Element* weight, const uint8_t* occupancy) {
    const Element* row[kRows];
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) row[r] = patch(point, tile + r);
    RegisterBlock<V, kRows, kVectors> block;
    block.clear();
    block.add_tap(row, a_.conv.inputs, weight, occupancy);
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) {
      PIXELTIER_UNROLL
      for (int v = 0; v < kVectors; v++)
        V::keep(products_ + (point * kMost + tile + r) * kBlock + v * V::lanes, block.sum[r][v]);
    }
  }

  template <int kVectors, bool full, bool special>
  void store(int64_t first_output) {
    PIXELTIER_UNROLL
    for (int v = 0; v < kVectors; v++) {
      const Epilogue<V, full> epilogue(a_.conv, first_output + v * V::lanes);
      for (int64_t t = 0; t < count_; t++) {
        typename V::Sum y[kTileRows];
        const float* products = products_ + t * kBlock + v * V::lanes;
        Transform::template products<V>([&](int k) { return V::floats(products + k * kMost * kBlock); }, y);
        const int32_t* to = a_.outputs + (first_ + t) * kTileRows;
        PIXELTIER_UNROLL
        for (int k = 0; k < kTileRows; k++) {
          if (to[k] < 0) continue;
          if constexpr (special)
            epilogue.finish_special(to[k], y[k]);
          else
            epilogue.finish(to[k], y[k]);
        }
      }
    }
  }

  const TileArguments& a_;
  int64_t stride_, first_ = 0, count_ = 0;
  float* products_;   // [point][tile][a block's outputs]
  Element* patches_;  // [point][tile][inputs, padded to whole vectors]
};

template <class V, class Transform>
bool run_winograd(const TileArguments& a, Range tiles) {
  using Group = TileGroup<V, Transform>;
  Group group(a);
  const int64_t count = tiles.end - tiles.begin;
  const int64_t groups = (count + Group::kMost - 1) / Group::kMost;
  bool valid = true;
  for (int64_t g = 0; g < groups; g++) {
    const int64_t begin = tiles.begin + count * g / groups, end = tiles.begin + count * (g + 1) / groups;
    valid &= group.run(begin, end - begin);
  }
  return valid;
}

// The tiles that keep an element's precision: bfloat16 has too few digits for the larger ones.
template <class V>
bool run_any_winograd(const TileArguments& a, Range tiles) {
  if constexpr (sizeof(typename V::Element) == sizeof(float))
    if (a.conv.taps == Winograd4::kPoints) return run_winograd<V, Winograd4>(a, tiles);
  return run_winograd<V, Winograd2>(a, tiles);
}

// What a file of one instruction set exports.
template <RowVector V>
constexpr RowKernel make_row_kernel(Isa isa, Element element) {
  return {isa,     element,      {V::lanes, V::vectors, V::depth, V::depth},
          V::rows, &run_rows<V>, &run_any_winograd<V>,
          &spin<V>};
}

}  // namespace
}  // namespace pixeltier
