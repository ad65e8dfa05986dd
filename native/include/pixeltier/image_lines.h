// Images of few channels as rows that overlap: in a padded channels-last image the taps of one line of a
// kernel are one row, which starts at the first of them. Torch-free.
#pragma once

#include <cstdint>

#include "pixeltier/row_kernel.h"

namespace pixeltier {

struct PaddedImage {
  const void* image;  // bytes [height, width, channels], or floats [channels, height, width] in [0, 1]
  bool bytes;
  int64_t channels, height, width, pad;

  int64_t lines() const { return height + 2 * pad; }
  int64_t columns() const { return width + 2 * pad; }
};

// Writes lines [begin, end) of the padded image, channels last, to `out` [lines, columns, channels]: bytes as
// they are, floats times 255, zeros around them. Whole numbers to 256 are exact in bfloat16.
void image_lines(const PaddedImage& image, int64_t begin, int64_t end, Element element, void* out);

// The rows of active cells [begin, end) of a grid `width` wide, in its padded image: table [i, kernel].
void line_table(const int32_t* active, int64_t begin, int64_t end, int64_t width, int64_t kernel,
                int32_t* table);

}  // namespace pixeltier
