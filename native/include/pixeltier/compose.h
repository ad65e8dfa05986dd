// The enlarged image: bicubic x4 plus what a network adds, rounded to bytes. Torch-free.
#pragma once

#include "pixeltier/plan.h"

namespace pixeltier {

// The four output lines of input line `line`, counted over all images of the grid.
//
// x [images, 3, height, width]; pixels [cells, 48], the 4x4 pixels of each cell in raster order, RGB each;
// image [images, 4 * height, 4 * width, 3]. Bicubic as Keys' "Cubic convolution interpolation for digital
// image processing" (1981) with a = -0.75, edges repeated.
void compose_line(const float* x, const float* pixels, Grid grid, int64_t line, uint8_t* image);

}  // namespace pixeltier
