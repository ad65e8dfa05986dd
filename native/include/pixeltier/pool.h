// Pooling over lines of channels-last cells. Torch-free.
#pragma once

#include <cstdint>

#include "pixeltier/row_kernel.h"

namespace pixeltier {

// One output line of a 3x3 maximum pool of stride 2 and padding 1: the maxima over `count` input lines of
// `width` cells, those of the three that lie inside the image, to out [(width + 1) / 2, channels].
void max_pool_line(Element element, const void* const* lines, int64_t count, int64_t width, int64_t channels,
                   void* out);

// One line of windows of `window` cells a side: out [ceil(width / window), 2 * channels], the means of a
// window's cells and then their maxima. `lines` holds `count` <= window lines one after the other; a ragged
// window has the cells that there are.
void pool_window_line(Element element, const void* lines, int64_t count, int64_t width, int64_t channels,
                      int64_t window, void* out);

}  // namespace pixeltier
