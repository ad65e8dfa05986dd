#include "row_order.h"

namespace pixeltier {
namespace {

// Tables of 3x3 taps are ordered; in larger ones few rows lack the same taps.
constexpr int64_t kTaps = 9;

// The least share of absent taps, as one in so many, for which ordering is worth its time.
constexpr int64_t kWorthwhile = 24;

}  // namespace

void order_rows(const int32_t* table, int64_t taps, int64_t begin, int64_t end, int64_t zero_row,
                int32_t* order) {
  const int64_t count = end - begin;
  uint16_t present[kMostOrderedRows];
  int32_t rows_with[(1 << kTaps) + 1] = {};
  int64_t absent = 0;
  if (taps == kTaps) {
    for (int64_t i = 0; i < count; i++) {
      const int32_t* row = table + (begin + i) * kTaps;
      unsigned bits = 0;
      for (int t = 0; t < kTaps; t++) bits |= static_cast<unsigned>(row[t] != zero_row) << t;
      present[i] = static_cast<uint16_t>(bits);
      rows_with[bits + 1]++;
      absent += kTaps - __builtin_popcount(bits);
    }
  }
  if (absent * kWorthwhile < count * kTaps || absent == 0) {
    for (int64_t i = 0; i < count; i++) order[i] = static_cast<int32_t>(begin + i);
    return;
  }
  for (int bits = 0; bits < 1 << kTaps; bits++) rows_with[bits + 1] += rows_with[bits];
  for (int64_t i = 0; i < count; i++) order[rows_with[present[i]]++] = static_cast<int32_t>(begin + i);
}

}  // namespace pixeltier
