// The enlarged image: what networks say, held to the input, rounded to bytes. Torch-free.
#pragma once

#include "pixeltier/plan.h"

namespace pixeltier {

// A pixel leaves the range of the 3x3 cells around it by at most this many times that range, colour by
// colour: where the input is flat, so is the image.
constexpr float kFreedom = 1;

// Of a pixel's three colours where the 3x3 cells around are gray (ITU-R BT.601).
constexpr float kRed = 0.299f, kGreen = 0.587f, kBlue = 0.114f;

// The least room towards white or black that a mean is divided by.
constexpr float kLeastRoom = 0.02f;

// Weights of a local mean over five cells each way: it sees nothing of stripes one cell wide.
constexpr float kBinomialCentre = 6.0f / 16, kBinomialNear = 4.0f / 16, kBinomialFar = 1.0f / 16;

// Cells around a cell whose `pixels` its image depends on, two at each of five steps: the image is reduced,
// the error enlarged, the image reduced again, its drift averaged and enlarged.
constexpr int kComposeReach = 10;

// The output lines of input lines [first, last) of one image of the grid.
//
// x [images, 3, height, width]; pixels [cells, 48], the 4x4 pixels of each cell in raster order, RGB each;
// to [images, 4 * height, 4 * width, 3], the start of it. The correction is one step of back-projection
// (Irani and Peleg, "Improving resolution by image registration", 1991): the image, reduced by the
// antialiased bicubic (Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -0.5),
// must be the input again; what it lacks is enlarged by the bicubic with a = -0.75, edges repeated; what of
// its local mean clamping takes back is pulled in afterwards. The result does not depend on how rows are
// divided.
void compose_rows(const float* x, const float* pixels, Grid grid, int64_t image, int64_t first, int64_t last,
                  uint8_t* to);

}  // namespace pixeltier
