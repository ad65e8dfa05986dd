#include "pixeltier/compose.h"

#include <algorithm>
#include <cstring>

#include "thread_scratch.h"

namespace pixeltier {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

constexpr int kScale = 4, kColours = 3, kTaps = 4;
constexpr int kReach = 2;                        // cells to the left and to the right that a pixel reads
constexpr int kAcross = 2 * kReach + 1;          // cells that the four pixels of a cell read together
constexpr int kVectors = kScale * kColours / 4;  // a line of a cell's pixels, RGB each, in vectors

// The weights of pixel `sub` of a cell for the cells at distances -2 to 2 from its own.
void cubic_weights(int sub, float (&weight)[kAcross]) {
  constexpr float a = -0.75f;
  const float centre = (static_cast<float>(sub) + 0.5f) / kScale - 0.5f;
  const int left = centre < 0 ? -1 : 0;
  const float t = centre - static_cast<float>(left), far = 1 + t, near = 1 - t, farthest = 2 - t;
  const float taps[kTaps] = {((a * far - 5 * a) * far + 8 * a) * far - 4 * a,
                             ((a + 2) * t - (a + 3)) * t * t + 1,
                             ((a + 2) * near - (a + 3)) * near * near + 1,
                             ((a * farthest - 5 * a) * farthest + 8 * a) * farthest - 4 * a};
  std::fill(weight, weight + kAcross, 0.0f);
  for (int i = 0; i < kTaps; i++) weight[left - 1 + i + kReach] = taps[i];
}

struct Weights {
  float vertical[kScale][kAcross];
  Float4 horizontal[kAcross][kVectors];  // [cell][pixel, colour]

  Weights() {
    for (int sub = 0; sub < kScale; sub++) {
      cubic_weights(sub, vertical[sub]);
      for (int cell = 0; cell < kAcross; cell++)
        for (int colour = 0; colour < kColours; colour++) {
          const int at = sub * kColours + colour;
          horizontal[cell][at / 4][at % 4] = vertical[sub][cell];
        }
    }
  }
};

// One colour of a line between input lines: `blended` [width].
void blend(const float* plane, Grid grid, int64_t y, const float (&weight)[kAcross], float* blended) {
  std::fill(blended, blended + grid.width, 0.0f);
  for (int i = 0; i < kAcross; i++) {
    if (weight[i] == 0) continue;
    const float* line = plane + std::clamp<int64_t>(y + i - kReach, 0, grid.height - 1) * grid.width;
    for (int64_t x = 0; x < grid.width; x++) blended[x] += weight[i] * line[x];
  }
}

// Three colours [3, width] as a vector per cell, RGB four times, with the edges repeated: [width + 4][12].
void spread(const float* colours, int64_t width, Float4* cells) {
  for (int64_t x = -kReach; x < width + kReach; x++, cells += kVectors) {
    const int64_t from = std::clamp<int64_t>(x, 0, width - 1);
    const float r = colours[from], g = colours[width + from], b = colours[2 * width + from];
    cells[0] = Float4{r, g, b, r};
    cells[1] = Float4{g, b, r, g};
    cells[2] = Float4{b, r, g, b};
  }
}

// 255 times the value, clamped (a NaN to 0) and rounded to nearest even.
Int4 to_bytes(Float4 value) {
  const Float4 least{}, most = Float4{} + 255, magic = Float4{} + 12582912.0f;  // 1.5 * 2^23
  value = value * 255;
  value = value > least ? value : least;
  value = value < most ? value : most;
  const Float4 rounded = value + magic;  // its lowest bits are the nearest whole number
  Int4 bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  return bits & 255;
}

}  // namespace

void compose_line(const float* x, const float* pixels, Grid grid, int64_t line, uint8_t* image) {
  static const Weights weights;
  const int64_t width = grid.width, y = line % grid.height, cells = grid.height * width;
  const float* planes = x + line / grid.height * kColours * cells;
  auto* spread_cells = thread_scratch<Float4>((width + 2 * kReach) * kVectors + kColours * (width + 3) / 4);
  auto* blended = reinterpret_cast<float*>(spread_cells + (width + 2 * kReach) * kVectors);
  const float* added = pixels + line * width * kScale * kScale * kColours;
  uint8_t* to = image + line * kScale * kScale * width * kColours;
  for (int sub = 0; sub < kScale; sub++) {
    for (int colour = 0; colour < kColours; colour++)
      blend(planes + colour * cells, grid, y, weights.vertical[sub], blended + colour * width);
    spread(blended, width, spread_cells);
    for (int64_t i = 0; i < width; i++)
      for (int v = 0; v < kVectors; v++, to += 4) {
        Float4 value;
        std::memcpy(&value, added + (i * kScale + sub) * kScale * kColours + 4 * v, sizeof value);
        for (int cell = 0; cell < kAcross; cell++)
          value += weights.horizontal[cell][v] * spread_cells[(i + cell) * kVectors + v];
        const Int4 bytes = to_bytes(value);
        for (int k = 0; k < 4; k++) to[k] = static_cast<uint8_t>(bytes[k]);
      }
  }
}

}  // namespace pixeltier
