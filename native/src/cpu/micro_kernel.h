// The sparse convolution over a small vector type V: one file per instruction set instantiates it.
//
// A register block holds `rows` x `vectors` accumulators. Every tap of every row is read through its row
// pointer, so nothing is gathered or copied (the indirection of Marat Dukhan, "The Indirect Convolution
// Algorithm", arXiv 1907.02129). The order of additions for one output value is tap, then input, whatever
// block the row falls in: results do not depend on the number of threads or on neighbouring rows.
//
// What V provides is the concept RowVector.
//
// V must have internal linkage (an anonymous namespace): otherwise the linker would keep one copy of these
// functions for all instruction sets.
#pragma once

#include <concepts>
#include <cstdint>
#include <utility>

#include "pixeltier/row_kernel.h"
#include "row_order.h"
#include "smooth_activation.h"

#define PIXELTIER_UNROLL _Pragma("GCC unroll 32")

namespace pixeltier {

// Float sums of one vector of outputs, and how rows and weights get into them and out.
template <class V>
concept RowVector =
    SmoothVector<V> &&
    requires(typename V::Sum sum, const typename V::Sum& value, const typename V::Operand& operand,
             const typename V::Weight& weight, float* floats, const float* from_floats,
             typename V::Element* to, const typename V::Element* from, int64_t n) {
      // Outputs in a vector; vectors in a block; inputs that one accumulate takes; most rows in a block.
      { V::lanes + V::vectors + V::depth + V::rows } -> std::convertible_to<int>;
      { V::floats(from_floats) } -> std::same_as<typename V::Sum>;
      V::keep(floats, value);
      { V::load(from) } -> std::same_as<typename V::Sum>;
      { V::load(from, n) } -> std::same_as<typename V::Sum>;  // the first n lanes, the others are zero
      V::store(to, value);
      V::store(to, value, n);
      { V::activate(value, value) } -> std::same_as<typename V::Sum>;  // value, slope
      V::claim(sum);                                                   // an optimisation barrier
      { V::operand(from) } -> std::same_as<typename V::Operand>;       // `depth` inputs for all lanes
      { V::operand_tail(from) } -> std::same_as<typename V::Operand>;  // one input, the others are zero
      { V::weight(from) } -> std::same_as<typename V::Weight>;         // of all lanes
      V::accumulate(sum, operand, weight);
    };

// Rows whose inputs stay in the second-level cache while all output blocks pass over them.
constexpr int64_t kChunkBytes = 256 * 1024;

// Bias, residual, activation and store of one vector of outputs, starting at output `o`.
template <class V, bool full>
struct Epilogue {
  using Element = typename V::Element;
  const ConvArguments& a;
  int64_t o, count;  // count: outputs in the vector
  typename V::Sum bias, slope;

  Epilogue(const ConvArguments& a, int64_t o)
      : a(a),
        o(o),
        count(full || o + V::lanes <= a.outputs ? int64_t{V::lanes} : a.outputs - o),
        bias(a.bias ? V::floats(a.bias + o) : V::zero()),
        slope(a.slope ? V::floats(a.slope + o) : V::zero()) {}

  // Finishes `sum` as row i of the table.
  void finish(int64_t i, typename V::Sum sum) const {
    typename V::Sum value = V::add(sum, bias);
    if (a.residual) {
      const int64_t row = a.residual_rows ? a.residual_rows[i] : i;
      const Element* from = static_cast<const Element*>(a.residual) + row * a.outputs + o;
      value = V::add(value, full ? V::load(from) : V::load(from, count));
    }
    if (a.slope) value = V::activate(value, slope);
    Element* to = static_cast<Element*>(a.out) + (a.out_rows ? a.out_rows[i] : i) * a.outputs + o;
    if (full)
      V::store(to, value);
    else
      V::store(to, value, count);
  }

  // The same where a.special(); too long to be inlined for every row of a register block.
  void finish_special(int64_t i, typename V::Sum sum) const {
    const typename V::Sum y = V::add(sum, bias);
    typename V::Sum value = y;
    if (a.residual) {
      const int64_t row = a.residual_rows ? a.residual_rows[i] : i;
      const Element* from = static_cast<const Element*>(a.residual) + row * a.outputs + o;
      value = V::add(value, full ? V::load(from) : V::load(from, count));
    }
    if (a.activation == Activation::silu)
      value = silu<V>(value);
    else if (a.activation == Activation::gate)
      value = gate<V>(value, y);
    else if (a.slope)
      value = V::activate(value, slope);
    const int64_t at = (a.out_rows ? a.out_rows[i] : i) * a.outputs + o;
    if (a.float_out)
      keep(static_cast<float*>(a.out) + at, value);
    else if (full)
      V::store(static_cast<Element*>(a.out) + at, value);
    else
      V::store(static_cast<Element*>(a.out) + at, value, count);
  }

 private:
  void keep(float* to, typename V::Sum value) const {
    if (full) return V::keep(to, value);
    float all[V::lanes];
    V::keep(all, value);
    for (int64_t i = 0; i < count; i++) to[i] = all[i];
  }
};

// Finishes kRows rows of one vector of outputs; one copy of it for all blocks of that height.
template <class V, bool full, int kRows>
__attribute__((noinline)) void finish_sums(const ConvArguments& a, const int32_t* order, int64_t first_output,
                                           const float (&sums)[kRows][V::lanes]) {
  const Epilogue<V, full> epilogue(a, first_output);
  for (int r = 0; r < kRows; r++) epilogue.finish_special(order[r], V::floats(sums[r]));
}

template <class V, int kRows, int kVectors>
struct RegisterBlock {
  using Element = typename V::Element;
  typename V::Sum sum[kRows][kVectors];

  void clear() {
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) {
      PIXELTIER_UNROLL
      for (int v = 0; v < kVectors; v++) sum[r][v] = V::zero();
    }
  }

  // An optimisation barrier on every accumulator, kept in its register.
  void claim() {
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) {
      PIXELTIER_UNROLL
      for (int v = 0; v < kVectors; v++) V::claim(sum[r][v]);
    }
  }

  // Adds one tap. `weight` holds the tap's inputs, padded to whole groups of V::depth; `occupancy` says for
  // each run of inputs which vectors of outputs have weights other than zero there.
  void add_tap(const Element* const* row, int64_t inputs, const Element* weight, const uint8_t* occupancy) {
    for (int64_t i = 0; i < inputs; i += kOccupancyInputs) {
      const int64_t end = i + kOccupancyInputs < inputs ? i + kOccupancyInputs : inputs;
      const Element* w = weight + i * kVectors * V::lanes;
      const int vectors = *occupancy++;
      if (vectors == (1 << kVectors) - 1)
        add_inputs<0, kVectors>(row, i, end, w);
      else if (vectors == 1)
        add_inputs<0, 1>(row, i, end, w);
      else if (vectors == 2)
        add_inputs<kVectors - 1, kVectors>(row, i, end, w);
    }
  }

  // `full`: the block has all of its outputs, so that whole vectors can be loaded and stored.
  template <bool full>
  void finish(const ConvArguments& a, const int32_t* order, int64_t first_output) {
    if (a.special()) return finish_special<full>(a, order, first_output);
    PIXELTIER_UNROLL
    for (int v = 0; v < kVectors; v++) {
      const Epilogue<V, full> epilogue(a, first_output + v * V::lanes);
      PIXELTIER_UNROLL
      for (int r = 0; r < kRows; r++) epilogue.finish(order[r], sum[r][v]);
    }
  }

 private:
  // Through memory, row by row.
  template <bool full>
  void finish_special(const ConvArguments& a, const int32_t* order, int64_t first_output) {
    float sums[kVectors][kRows][V::lanes];
    PIXELTIER_UNROLL
    for (int v = 0; v < kVectors; v++) {
      PIXELTIER_UNROLL
      for (int r = 0; r < kRows; r++) V::keep(sums[v][r], sum[r][v]);
    }
    for (int v = 0; v < kVectors; v++) finish_sums<V, full>(a, order, first_output + v * V::lanes, sums[v]);
  }

  // Adds inputs [i, end) to the vectors [kFirst, kLast).
  template <int kFirst, int kLast>
  void add_inputs(const Element* const* row, int64_t i, int64_t end, const Element* weight) {
    for (; i + V::depth <= end; i += V::depth, weight += kVectors * V::lanes * V::depth)
      step<kFirst, kLast>(row, i, weight, [](const Element* p) { return V::operand(p); });
    if (V::depth > 1 && i < end)
      step<kFirst, kLast>(row, i, weight, [](const Element* p) { return V::operand_tail(p); });
  }

  template <int kFirst, int kLast, class Load>
  void step(const Element* const* row, int64_t i, const Element* weight, Load operand) {
    typename V::Weight w[kVectors];
    PIXELTIER_UNROLL
    for (int v = kFirst; v < kLast; v++) w[v] = V::weight(weight + v * V::lanes * V::depth);
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) {
      const typename V::Operand x = operand(row[r] + i);
      PIXELTIER_UNROLL
      for (int v = kFirst; v < kLast; v++) V::accumulate(sum[r][v], x, w[v]);
    }
  }
};

// Where a block of outputs starts: its number of outputs before it, its weights and their occupancy.
struct OutputBlock {
  int64_t first;
  const void* weight;
  const uint8_t* occupancy;
};

// The rows order[0, kRows) and kVectors vectors of outputs, all taps.
template <class V, int kRows, int kVectors>
bool compute_block(const ConvArguments& a, const int32_t* order, const OutputBlock& outputs) {
  using Element = typename V::Element;
  const auto* rows = static_cast<const Element*>(a.rows);
  const auto* weight = static_cast<const Element*>(outputs.weight);
  const int64_t tap_size = (a.inputs + V::depth - 1) / V::depth * V::depth * kVectors * V::lanes;
  const auto last = static_cast<uint32_t>(a.row_count);
  const int64_t runs = occupancy_runs(a.inputs);
  const uint8_t* occupancy = outputs.occupancy;
  bool valid = true;
  RegisterBlock<V, kRows, kVectors> block;
  block.clear();
  for (int64_t t = 0; t < a.taps; t++, weight += tap_size, occupancy += runs) {
    const Element* row[kRows];
    bool any = false;
    PIXELTIER_UNROLL
    for (int r = 0; r < kRows; r++) {
      const auto number = static_cast<uint32_t>(a.table[order[r] * a.taps + t]);
      valid &= number <= last;
      any |= number < last;
      row[r] = rows + static_cast<int64_t>(number < last ? number : last) * a.row_stride;
    }
    if (any) block.add_tap(row, a.inputs, weight, occupancy);  // adding zeros changes nothing
  }
  if (outputs.first + kVectors * V::lanes <= a.outputs)
    block.template finish<true>(a, order, outputs.first);
  else
    block.template finish<false>(a, order, outputs.first);
  return valid;
}

using BlockFunction = bool (*)(const ConvArguments&, const int32_t*, const OutputBlock&);

template <class V, int kVectors, int... kRows>
BlockFunction block_function(int64_t rows, std::integer_sequence<int, kRows...>) {
  static constexpr BlockFunction functions[] = {&compute_block<V, kRows + 1, kVectors>...};
  return functions[rows - 1];
}

template <class V>
BlockFunction block_function(int64_t rows, int64_t vectors) {
  static_assert(V::vectors == 2, "one instantiation for each number of vectors in a block");
  constexpr auto all = std::make_integer_sequence<int, V::rows>();
  return vectors == 2 ? block_function<V, 2>(rows, all) : block_function<V, 1>(rows, all);
}

// How many rows to take at a time: a multiple of V::rows.
template <class V>
int64_t chunk_rows(int64_t inputs) {
  const int64_t in_cache = kChunkBytes / (inputs * static_cast<int64_t>(sizeof(typename V::Element)));
  const int64_t most = in_cache < kMostOrderedRows ? in_cache : kMostOrderedRows;
  return most < V::rows ? V::rows : most / V::rows * V::rows;
}

template <class V>
bool run_rows(const ConvArguments& a, Range rows, Range blocks) {
  constexpr int64_t kBlock = int64_t{V::lanes} * V::vectors;
  const int64_t block_size = a.taps * ((a.inputs + V::depth - 1) / V::depth * V::depth) * kBlock;
  const int64_t chunk = chunk_rows<V>(a.inputs);
  int32_t order[kMostOrderedRows];
  bool valid = true;
  for (int64_t begin = rows.begin; begin < rows.end; begin += chunk) {
    const int64_t count = begin + chunk < rows.end ? chunk : rows.end - begin;
    const int64_t parts = (count + V::rows - 1) / V::rows;  // of nearly equal height
    order_rows(a.table, a.taps, begin, begin + count, a.row_count, order);
    for (int64_t b = blocks.begin; b < blocks.end; b++) {
      const OutputBlock outputs{b * kBlock,
                                static_cast<const typename V::Element*>(a.weight) + b * block_size,
                                a.occupancy + b * a.taps * occupancy_runs(a.inputs)};
      const int64_t left = (a.outputs - outputs.first + V::lanes - 1) / V::lanes;
      const int64_t vectors = left < V::vectors ? left : V::vectors;
      for (int64_t p = 0; p < parts; p++) {
        const int64_t first = count * p / parts, next = count * (p + 1) / parts;
        valid &= block_function<V>(next - first, vectors)(a, order + first, outputs);
      }
    }
  }
  return valid;
}

// The multiply-adds of a full block and nothing else, `steps` times: the peak that a kernel is measured
// against. Returns how many multiply-adds it did.
template <class V>
int64_t spin(int64_t steps) {
  const typename V::Element zeros[V::lanes * V::depth] = {};
  typename V::Operand x = V::operand(zeros);
  typename V::Weight w = V::weight(zeros);
  RegisterBlock<V, V::rows, V::vectors> block;
  block.clear();
  for (int64_t s = 0; s < steps; s++) {
    // The empty statement claims to change the block, so that the compiler repeats the additions.
    block.claim();
    PIXELTIER_UNROLL
    for (int r = 0; r < V::rows; r++) {
      PIXELTIER_UNROLL
      for (int v = 0; v < V::vectors; v++) V::accumulate(block.sum[r][v], x, w);
    }
  }
  block.claim();
  return steps * V::rows * V::vectors * V::lanes * V::depth;
}

}  // namespace pixeltier
