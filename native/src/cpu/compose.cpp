#include "pixeltier/compose.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "thread_scratch.h"

namespace pixeltier {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

constexpr int kScale = 4, kColours = 3, kTaps = 4;
constexpr int kReach = 2;                        // cells to the left and to the right that a pixel reads
constexpr int kAcross = 2 * kReach + 1;          // cells that the four pixels of a cell read together
constexpr int kVectors = kScale * kColours / 4;  // a line of a cell's pixels, RGB each, in vectors
constexpr int kTapsDown = 4 * kScale;            // pixels that a cell is reduced from, each way
constexpr int kMargin = (kTapsDown - kScale) / 2;

// Keys' kernel of parameter a, at a distance in cells.
float keys(float a, float distance) {
  const float t = distance < 0 ? -distance : distance;
  if (t >= 2) return 0;
  return t < 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
}

// The weights of pixel `sub` of a cell for the cells at distances -2 to 2 from its own.
void cubic_weights(int sub, float (&weight)[kAcross]) {
  const float centre = (static_cast<float>(sub) + 0.5f) / kScale - 0.5f;
  for (int i = 0; i < kAcross; i++) weight[i] = keys(-0.75f, static_cast<float>(i - kReach) - centre);
}

struct Weights {
  float vertical[kScale][kAcross];
  Float4 horizontal[kAcross][kVectors];          // [cell][pixel, colour]
  float down[kTapsDown];                         // of the pixels around a cell, sum 1
  Float4 across_down[kTapsDown * kColours / 4];  // [pixel, colour]

  Weights() {
    for (int sub = 0; sub < kScale; sub++) {
      cubic_weights(sub, vertical[sub]);
      for (int cell = 0; cell < kAcross; cell++)
        for (int colour = 0; colour < kColours; colour++) {
          const int at = sub * kColours + colour;
          horizontal[cell][at / 4][at % 4] = vertical[sub][cell];
        }
    }
    float sum = 0;
    for (int tap = 0; tap < kTapsDown; tap++)
      sum += down[tap] = keys(-0.5f, (static_cast<float>(tap) + 0.5f) / kScale - 2);
    for (int tap = 0; tap < kTapsDown; tap++) {
      down[tap] /= sum;
      for (int colour = 0; colour < kColours; colour++) {
        const int at = tap * kColours + colour;
        across_down[at / 4][at % 4] = down[tap];
      }
    }
  }
};

const Weights kWeights;

// Lines of three colours, [3, width] each: those of an image [3, height, width], or of some of its rows.
struct Lines {
  const float* base;
  int64_t row_stride, colour_stride, first;

  const float* at(int64_t y, int colour) const {
    return base + (y - first) * row_stride + colour * colour_stride;
  }
};

Float4 clamped(Float4 value, Float4 least, Float4 most) {  // a NaN to `least`
  value = value > least ? value : least;
  return value < most ? value : most;
}

// Three colours of a line between input lines: `blended` [3, width].
void blend(const Lines& lines, Grid grid, int64_t y, const float (&weight)[kAcross], float* blended) {
  std::fill(blended, blended + kColours * grid.width, 0.0f);
  for (int i = 0; i < kAcross; i++) {
    if (weight[i] == 0) continue;
    const int64_t row = std::clamp<int64_t>(y + i - kReach, 0, grid.height - 1);
    for (int colour = 0; colour < kColours; colour++) {
      const float* line = lines.at(row, colour);
      float* to = blended + colour * grid.width;
      for (int64_t x = 0; x < grid.width; x++) to[x] += weight[i] * line[x];
    }
  }
}

// A colour each as a vector per cell, RGB four times.
void repeat(float r, float g, float b, Float4* cell) {
  cell[0] = Float4{r, g, b, r};
  cell[1] = Float4{g, b, r, g};
  cell[2] = Float4{b, r, g, b};
}

// Three colours [3, width] repeated cell by cell, and the edges with them: [width + 4][12].
void spread(const float* colours, int64_t width, Float4* cells) {
  for (int64_t x = -kReach; x < width + kReach; x++, cells += kVectors) {
    const int64_t from = std::clamp<int64_t>(x, 0, width - 1);
    repeat(colours[from], colours[width + from], colours[2 * width + from], cells);
  }
}

// 255 times the value in [0, 1], rounded to nearest even.
Int4 to_bytes(Float4 value) {
  const Float4 rounded =
      value * 255 + 12582912.0f;  // 1.5 * 2^23: its lowest bits are the nearest whole number
  Int4 bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  return bits & 255;
}

// What a line's pixels may be: `least` to `most` [width][12], and where `gray` [width] without colour.
struct Bounds {
  Float4 *least, *most;
  bool* gray;
};

void find_bounds(const Lines& x, Grid grid, int64_t y, float* extremes, Bounds bounds) {
  const int64_t width = grid.width;
  const int64_t rows[3] = {std::max<int64_t>(y - 1, 0), y, std::min(y + 1, grid.height - 1)};
  float* least = extremes;
  float* most = extremes + kColours * width;
  for (int colour = 0; colour < kColours; colour++) {
    const float *a = x.at(rows[0], colour), *b = x.at(rows[1], colour), *c = x.at(rows[2], colour);
    for (int64_t i = 0; i < width; i++) {
      least[colour * width + i] = std::min(std::min(a[i], b[i]), c[i]);
      most[colour * width + i] = std::max(std::max(a[i], b[i]), c[i]);
    }
  }
  auto gray_column = [&](int64_t i) {
    for (int64_t row : rows)
      if (x.at(row, 0)[i] != x.at(row, 1)[i] || x.at(row, 0)[i] != x.at(row, 2)[i]) return false;
    return true;
  };
  bool left_gray = gray_column(0), own_gray = left_gray;
  for (int64_t i = 0; i < width; i++) {
    const int64_t left = std::max<int64_t>(i - 1, 0), right = std::min(i + 1, width - 1);
    const bool right_gray = gray_column(right);
    bounds.gray[i] = left_gray && own_gray && right_gray;
    left_gray = own_gray;
    own_gray = right_gray;
    float from[kColours], to[kColours];
    for (int colour = 0; colour < kColours; colour++) {
      const float *low = least + colour * width, *high = most + colour * width;
      from[colour] = std::min(std::min(low[left], low[i]), low[right]);
      to[colour] = std::max(std::max(high[left], high[i]), high[right]);
      const float beyond = kFreedom * (to[colour] - from[colour]);
      from[colour] -= beyond;
      to[colour] += beyond;
    }
    repeat(from[0], from[1], from[2], bounds.least + i * kVectors);
    repeat(to[0], to[1], to[2], bounds.most + i * kVectors);
  }
}

// One line of a cell's pixels, within its bounds.
void bounded(const float* said, const Bounds& bounds, int64_t cell, Float4* out) {
  float pixels[kVectors * 4];
  std::memcpy(pixels, said, sizeof pixels);
  if (bounds.gray[cell])
    for (int pixel = 0; pixel < kScale; pixel++) {
      float* rgb = pixels + pixel * kColours;
      rgb[0] = rgb[1] = rgb[2] = kRed * rgb[0] + kGreen * rgb[1] + kBlue * rgb[2];
    }
  for (int v = 0; v < kVectors; v++) {
    std::memcpy(&out[v], pixels + 4 * v, sizeof out[v]);
    out[v] = clamped(out[v], bounds.least[cell * kVectors + v], bounds.most[cell * kVectors + v]);
  }
}

struct Scratch {
  float* blended;     // [3, width]
  Float4* cells;      // [width + 4][12], then of the pull
  Float4* pulls;      // [width + 4][12]
  float* extremes;    // [2][3, width]
  Bounds bounds;      // of a line
  float* line;        // a line of pixels with a margin, RGB
  float* shrunk;      // [4 * rows][3, width]: lines of pixels, reduced to cells
  float* brightness;  // [rows][3, width]: means of the cells' pixels
  float* error;       // [rows][3, width]: the input less the reduced image
  float* detail;      // [rows][3, width]: the error that is added, enlarged
  float* pull;        // [rows][3, width]: and how far towards white or black
};

// One line of pixels, clamped: what networks say, and the bicubic enlargement of the detail that it lacks, if
// that is known.
void write_line(const float* said, const Lines* detail, Grid grid, int64_t y, int sub, const Scratch& scratch,
                float* out) {
  if (detail) {
    blend(*detail, grid, y, kWeights.vertical[sub], scratch.blended);
    spread(scratch.blended, grid.width, scratch.cells);
  }
  for (int64_t i = 0; i < grid.width; i++) {
    Float4 values[kVectors];
    bounded(said + (i * kScale + sub) * kScale * kColours, scratch.bounds, i, values);
    for (int v = 0; v < kVectors; v++, out += 4) {
      Float4 value = values[v];
      for (int cell = 0; detail && cell < kAcross; cell++)
        value += kWeights.horizontal[cell][v] * scratch.cells[(i + cell) * kVectors + v];
      value = clamped(value, Float4{}, Float4{} + 1);
      std::memcpy(out, &value, sizeof value);
    }
  }
}

// A line of pixels with kMargin at both ends (filled here) to cells: `shrunk` [3, width]; adds to
// `brightness`.
void shrink(float* padded, int64_t width, float* shrunk, float* brightness) {
  float* const end = padded + (kMargin + kScale * width) * kColours;
  for (int64_t i = 0; i < kMargin; i++) {
    std::memcpy(padded + i * kColours, padded + kMargin * kColours, kColours * sizeof(float));
    std::memcpy(end + i * kColours, end - kColours, kColours * sizeof(float));
  }
  for (int64_t i = 0; i < width; i++) {
    Float4 sum[kVectors] = {};
    const float* from = padded + i * kScale * kColours;
    for (int v = 0; v < kTapsDown * kColours / 4; v++) {
      Float4 value;
      std::memcpy(&value, from + 4 * v, sizeof value);
      sum[v % kVectors] += kWeights.across_down[v] * value;
    }
    // Each colour's sums in the same order, so that gray stays gray to the last bit.
    shrunk[i] = sum[0][0] + sum[0][3] + sum[1][2] + sum[2][1];
    shrunk[width + i] = sum[0][1] + sum[1][0] + sum[1][3] + sum[2][2];
    shrunk[2 * width + i] = sum[0][2] + sum[1][1] + sum[2][0] + sum[2][3];
    const float* own = from + kMargin * kColours;
    for (int colour = 0; colour < kColours; colour++)
      brightness[colour * width + i] +=
          (own[colour] + own[3 + colour] + own[6 + colour] + own[9 + colour]) / (kScale * kScale);
  }
}

constexpr float kBinomial[kAcross] = {kBinomialFar, kBinomialNear, kBinomialCentre, kBinomialNear,
                                      kBinomialFar};

// Rows [first, last) of an image.
struct Rows {
  int64_t first, last;

  Rows grown(int64_t by, int64_t height) const {
    return {std::max<int64_t>(first - by, 0), std::min(last + by, height)};
  }
};

// The binomial mean around each cell of row y, edges repeated: `mean` [3, width], with `column` for the lines
// between.
void local_mean(const float* rows, int64_t first, Grid grid, int64_t y, float* column, float* mean) {
  const int64_t size = kColours * grid.width, last = grid.width - 1;
  std::fill(column, column + size, 0.0f);
  for (int tap = 0; tap < kAcross; tap++) {
    const float* line = rows + (std::clamp<int64_t>(y + tap - kReach, 0, grid.height - 1) - first) * size;
    for (int64_t i = 0; i < size; i++) column[i] += kBinomial[tap] * line[i];
  }
  for (int64_t start = 0; start < size; start += grid.width)
    for (int64_t i = 0; i <= last; i++) {
      float sum = 0;
      for (int tap = 0; tap < kAcross; tap++)
        sum += kBinomial[tap] * column[start + std::clamp<int64_t>(i + tap - kReach, 0, last)];
      mean[start + i] = sum;
    }
}

// One image of the grid, in rows.
class Composition {
 public:
  Composition(const float* x, const float* pixels, Grid grid, int64_t image)
      : grid_(grid),
        size_(kColours * grid.width),
        x_{x + image * kColours * grid.height * grid.width, grid.width, grid.height * grid.width, 0},
        pixels_(pixels + image * grid.height * grid.width * kScale * kScale * kColours) {}

  void rows(Rows own, uint8_t* to) const {
    const int64_t height = grid_.height;
    const Rows pulled = own.grown(kReach, height), drifts = pulled.grown(kReach, height),
               sharp = drifts.grown(2 * kReach, height);
    const Scratch scratch = allocate(own.last - own.first + 2 * kComposeReach);
    find_errors(nullptr, sharp, scratch);
    std::copy_n(scratch.error, (sharp.last - sharp.first) * size_, scratch.detail);
    const Lines detail{scratch.detail, size_, grid_.width, sharp.first};
    find_errors(&detail, drifts, scratch);
    for (int64_t y = pulled.first; y < pulled.last; y++)
      find_pull(y, drifts.first, scratch, scratch.pull + (y - pulled.first) * size_);
    const Lines pull{scratch.pull, size_, grid_.width, pulled.first};
    for (int64_t y = own.first; y < own.last; y++) {
      find_bounds(x_, grid_, y, scratch.extremes, scratch.bounds);
      for (int sub = 0; sub < kScale; sub++, to += kScale * size_) {
        write_line(said(y), &detail, grid_, y, sub, scratch, scratch.line);
        write(pull, y, sub, scratch, to);
      }
    }
  }

 private:
  const float* said(int64_t y) const { return pixels_ + y * size_ * kScale * kScale; }

  // Of the wanted rows: how far the image, with such detail added, is off x once it is reduced, and how
  // bright it is.
  void find_errors(const Lines* detail, Rows wanted, const Scratch& scratch) const {
    const Rows read = wanted.grown(kReach, grid_.height);
    std::fill(scratch.brightness, scratch.brightness + (read.last - read.first) * size_, 0.0f);
    for (int64_t y = read.first; y < read.last; y++) {
      find_bounds(x_, grid_, y, scratch.extremes, scratch.bounds);
      for (int sub = 0; sub < kScale; sub++) {
        write_line(said(y), detail, grid_, y, sub, scratch, scratch.line + kMargin * kColours);
        shrink(scratch.line, grid_.width, scratch.shrunk + ((y - read.first) * kScale + sub) * size_,
               scratch.brightness + (y - read.first) * size_);
      }
    }
    for (int64_t y = wanted.first; y < wanted.last; y++) {
      float* error = scratch.error + (y - wanted.first) * size_;
      for (int colour = 0; colour < kColours; colour++)
        std::copy_n(x_.at(y, colour), grid_.width, error + colour * grid_.width);
      for (int tap = 0; tap < kTapsDown; tap++) {
        const int64_t row = std::clamp<int64_t>(kScale * y - kMargin + tap, 0, kScale * grid_.height - 1);
        const float* line = scratch.shrunk + (row - kScale * read.first) * size_;
        for (int64_t i = 0; i < size_; i++) error[i] -= kWeights.down[tap] * line[i];
      }
    }
    std::memmove(scratch.brightness, scratch.brightness + (wanted.first - read.first) * size_,
                 (wanted.last - wanted.first) * size_ * sizeof(float));
  }

  // The local mean that is still missing, as a share of the room towards white or black: no clamping takes it
  // back.
  void find_pull(int64_t y, int64_t first, const Scratch& scratch, float* pull) const {
    float *drift = scratch.extremes, *bright = scratch.extremes + size_;
    local_mean(scratch.error, first, grid_, y, scratch.blended, drift);
    local_mean(scratch.brightness, first, grid_, y, scratch.blended, bright);
    for (int64_t i = 0; i < size_; i++) {
      const float room = drift[i] > 0 ? 1 - bright[i] : bright[i];
      pull[i] = std::clamp(drift[i] / std::max(room, kLeastRoom), -1.0f, 1.0f);
    }
  }

  void write(const Lines& pull, int64_t y, int sub, const Scratch& scratch, uint8_t* to) const {
    blend(pull, grid_, y, kWeights.vertical[sub], scratch.blended);
    spread(scratch.blended, grid_.width, scratch.pulls);
    for (int64_t i = 0; i < grid_.width; i++)
      for (int v = 0; v < kVectors; v++, to += 4) {
        Float4 value, towards{};
        std::memcpy(&value, scratch.line + (i * kVectors + v) * 4, sizeof value);
        for (int cell = 0; cell < kAcross; cell++)
          towards += kWeights.horizontal[cell][v] * scratch.pulls[(i + cell) * kVectors + v];
        value += towards * (towards > Float4{} ? 1 - value : value);
        const Int4 bytes = to_bytes(clamped(value, Float4{}, Float4{} + 1));
        for (int k = 0; k < 4; k++) to[k] = static_cast<uint8_t>(bytes[k]);
      }
  }

  Scratch allocate(int64_t rows) const {
    const int64_t width = grid_.width, vectors = (width + 2 * kReach) * kVectors;
    const int64_t floats = size_ + 2 * size_ + (kScale * width + 2 * kMargin) * kColours +
                           rows * size_ * (kScale + 4) + (width + 3) / 4;
    auto* cells = thread_scratch<Float4>(2 * vectors + 2 * width * kVectors + (floats + 3) / 4);
    Scratch scratch;
    scratch.cells = cells;
    scratch.pulls = cells + vectors;
    scratch.bounds.least = scratch.pulls + vectors;
    scratch.bounds.most = scratch.bounds.least + width * kVectors;
    auto* next = reinterpret_cast<float*>(scratch.bounds.most + width * kVectors);
    auto take = [&next](int64_t count) { return std::exchange(next, next + count); };
    scratch.blended = take(size_);
    scratch.extremes = take(2 * size_);
    scratch.line = take((kScale * width + 2 * kMargin) * kColours);
    scratch.shrunk = take(rows * kScale * size_);
    scratch.brightness = take(rows * size_);
    scratch.error = take(rows * size_);
    scratch.detail = take(rows * size_);
    scratch.pull = take(rows * size_);
    scratch.bounds.gray = reinterpret_cast<bool*>(next);
    return scratch;
  }

  Grid grid_;
  int64_t size_;
  Lines x_;
  const float* pixels_;
};

}  // namespace

void compose_rows(const float* x, const float* pixels, Grid grid, int64_t image, int64_t first, int64_t last,
                  uint8_t* to) {
  const int64_t line = kScale * kScale * kColours * grid.width;
  Composition(x, pixels, grid, image).rows({first, last}, to + (image * grid.height + first) * line);
}

}  // namespace pixeltier
