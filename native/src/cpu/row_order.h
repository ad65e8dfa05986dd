// In which order the rows of a table are computed.
#pragma once

#include <cstdint>

namespace pixeltier {

constexpr int64_t kMostOrderedRows = 4096;

// Writes the row numbers [begin, end) to order[0, end - begin), at most kMostOrderedRows. Rows at the edges
// of active regions lack the same neighbours by the side of the region they are at; where there are enough of
// them, rows that lack the same taps follow each other, so that whole blocks can skip those taps. Results do
// not depend on the order. Compiled for the least instruction set, outside of the kernels' files.
void order_rows(const int32_t* table, int64_t taps, int64_t begin, int64_t end, int64_t zero_row,
                int32_t* order);

}  // namespace pixeltier
