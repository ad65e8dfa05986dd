// A 3x3 convolution by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, "Fast Algorithms for
// Convolutional Neural Networks", arXiv 1509.09308): sixteen products for four outputs instead of thirty-six.
//
// Works on tiles of 2x2 outputs over the vector types of micro_kernel.h. A few tiles at a time, their 4x4
// inputs are transformed into sixteen matrices [tile, input], each is multiplied with its own [input, output]
// matrix of transformed weights, and the sixteen results are transformed back into four rows. The order of
// additions for one output value depends on nothing but its tile.
#pragma once

#include "micro_kernel.h"
#include "thread_scratch.h"

namespace pixeltier {
namespace {

constexpr int kPoints = 16, kTileRows = 4;

// B^T d B on sixteen values of a 4x4 patch, in place.
template <class V>
void transform_patch(typename V::Sum (&d)[kPoints]) {
  const auto line = [&d](int at, int step) {
    const auto a = d[at], b = d[at + step], c = d[at + 2 * step], e = d[at + 3 * step];
    d[at] = V::subtract(a, c);
    d[at + step] = V::add(b, c);
    d[at + 2 * step] = V::subtract(c, b);
    d[at + 3 * step] = V::subtract(b, e);
  };
  PIXELTIER_UNROLL
  for (int i = 0; i < 4; i++) line(i, 4);
  PIXELTIER_UNROLL
  for (int i = 0; i < 4; i++) line(4 * i, 1);
}

// A^T m A on sixteen products: the four outputs (0, 0), (0, 1), (1, 0), (1, 1).
template <class V>
void transform_products(const typename V::Sum (&m)[kPoints], typename V::Sum (&y)[kTileRows]) {
  typename V::Sum s[2][4];
  PIXELTIER_UNROLL
  for (int i = 0; i < 4; i++) {
    s[0][i] = V::add(V::add(m[i], m[4 + i]), m[8 + i]);
    s[1][i] = V::subtract(V::subtract(m[4 + i], m[8 + i]), m[12 + i]);
  }
  PIXELTIER_UNROLL
  for (int i = 0; i < 2; i++) {
    y[2 * i] = V::add(V::add(s[i][0], s[i][1]), s[i][2]);
    y[2 * i + 1] = V::subtract(V::subtract(s[i][1], s[i][2]), s[i][3]);
  }
}

// Some tiles that pass through all steps together, small enough for the second-level cache.
template <class V>
class TileGroup {
 public:
  using Element = typename V::Element;
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
    PIXELTIER_UNROLL
    for (int k = 0; k < kPoints; k++) d[k] = load(k);
    transform_patch<V>(d);
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
    if (outputs.first + kVectors * V::lanes <= a_.conv.outputs)
      store<kVectors, true>(outputs.first);
    else
      store<kVectors, false>(outputs.first);
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

  template <int kVectors, bool full>
  void store(int64_t first_output) {
    PIXELTIER_UNROLL
    for (int v = 0; v < kVectors; v++) {
      const Epilogue<V, full> epilogue(a_.conv, first_output + v * V::lanes);
      for (int64_t t = 0; t < count_; t++) {
        typename V::Sum m[kPoints], y[kTileRows];
        PIXELTIER_UNROLL
        for (int k = 0; k < kPoints; k++)
          m[k] = V::floats(products_ + (k * kMost + t) * kBlock + v * V::lanes);
        transform_products<V>(m, y);
        const int32_t* to = a_.outputs + (first_ + t) * kTileRows;
        PIXELTIER_UNROLL
        for (int k = 0; k < kTileRows; k++)
          if (to[k] >= 0) epilogue.finish(to[k], y[k]);
      }
    }
  }

  const TileArguments& a_;
  int64_t stride_, first_ = 0, count_ = 0;
  float* products_;   // [point][tile][a block's outputs]
  Element* patches_;  // [point][tile][inputs, padded to whole vectors]
};

template <class V>
bool run_winograd(const TileArguments& a, Range tiles) {
  TileGroup<V> group(a);
  const int64_t count = tiles.end - tiles.begin;
  const int64_t groups = (count + TileGroup<V>::kMost - 1) / TileGroup<V>::kMost;
  bool valid = true;
  for (int64_t g = 0; g < groups; g++) {
    const int64_t begin = tiles.begin + count * g / groups, end = tiles.begin + count * (g + 1) / groups;
    valid &= group.run(begin, end - begin);
  }
  return valid;
}

// What a file of one instruction set exports.
template <class V>
constexpr RowKernel make_row_kernel(Isa isa, Element element) {
  return {isa,     element,      {V::lanes, V::vectors, V::depth, V::depth},
          V::rows, &run_rows<V>, &run_winograd<V>,
          &spin<V>};
}

}  // namespace
}  // namespace pixeltier
