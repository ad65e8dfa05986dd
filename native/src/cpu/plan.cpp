#include "pixeltier/plan.h"

#include <algorithm>

namespace pixeltier {

int64_t plan_image(const float* importance, int64_t cells, float threshold, bool keep_best, int32_t first,
                   int32_t* active) {
  int64_t best = -1;
  if (keep_best)
    for (int64_t i = 0; i < cells; i++)
      if (importance[i] == importance[i] && (best < 0 || importance[i] > importance[best])) best = i;
  const bool best_is_below = best >= 0 && !(importance[best] >= threshold);
  int64_t count = 0;
  if (!active) {
    for (int64_t i = 0; i < cells; i++) count += importance[i] >= threshold;
    return count + best_is_below;
  }
  // No value reaches the threshold where the best one does not.
  if (best_is_below) return active[0] = first + static_cast<int32_t>(best), 1;
  for (int64_t i = 0; i < cells; i++)
    if (importance[i] >= threshold) active[count++] = first + static_cast<int32_t>(i);
  return count;
}

int64_t first_invalid(const int32_t* active, int64_t count, int64_t cells) {
  int64_t previous = -1;
  for (int64_t i = 0; i < count; i++) {
    if (active[i] <= previous || active[i] >= cells) return i;
    previous = active[i];
  }
  return -1;
}

void dense_table(const int32_t* active, int64_t begin, int64_t end, Grid input, int64_t kernel,
                 int64_t stride, int32_t* table) {
  const int64_t pad = kernel / 2, taps = kernel * kernel;
  const int64_t width = (input.width - 1) / stride + 1, height = (input.height - 1) / stride + 1;
  const auto absent = static_cast<int32_t>(input.cells());
  for (int64_t i = begin; i < end; i++) {
    const int64_t cell = active[i], x = cell % width, y = cell / width % height, n = cell / (width * height);
    int32_t* row = table + i * taps;
    for (int64_t ky = 0; ky < kernel; ky++) {
      const int64_t iy = y * stride + ky - pad;
      const bool inside = iy >= 0 && iy < input.height;
      const int64_t line = (n * input.height + iy) * input.width;
      for (int64_t kx = 0; kx < kernel; kx++) {
        const int64_t ix = x * stride + kx - pad;
        *row++ = inside && ix >= 0 && ix < input.width ? static_cast<int32_t>(line + ix) : absent;
      }
    }
  }
}

void packed_table(const int32_t* active, int64_t count, int64_t begin, int64_t end, Grid grid, int64_t kernel,
                  int32_t* table) {
  const int64_t pad = kernel / 2, taps = kernel * kernel;
  const auto absent = static_cast<int32_t>(count);
  for (int64_t t = 0; t < taps; t++) {
    const int64_t dy = t / kernel - pad, dx = t % kernel - pad, offset = dy * grid.width + dx;
    // Both the cells and their neighbours at one offset ascend, so one pass over the list finds them all.
    const int32_t* found = std::lower_bound(active, active + count, begin < end ? active[begin] + offset : 0);
    for (int64_t i = begin; i < end; i++) {
      const int64_t cell = active[i], x = cell % grid.width + dx, y = cell / grid.width % grid.height + dy;
      int32_t row = absent;
      if (x >= 0 && x < grid.width && y >= 0 && y < grid.height) {
        while (found < active + count && *found < cell + offset) ++found;
        if (found < active + count && *found == cell + offset) row = static_cast<int32_t>(found - active);
      }
      table[i * taps + t] = row;
    }
  }
}

int64_t tile_table(const int32_t* position, int64_t count, Grid grid, bool packed, int64_t size,
                   int32_t* table, int32_t* outputs) {
  const int64_t side = size + 2, points = side * side, most = size * size;
  int64_t tiles = 0;
  const auto inside = [&grid](int64_t y, int64_t x) {
    return y >= 0 && y < grid.height && x >= 0 && x < grid.width;
  };
  for (int64_t n = 0; n < grid.images; n++) {
    const int64_t first = n * grid.height * grid.width;
    const auto place = [&](int64_t y, int64_t x) {
      return inside(y, x) ? position[first + y * grid.width + x] : -1;
    };
    const auto row = [&](int64_t y, int64_t x) {
      if (!packed) return static_cast<int32_t>(inside(y, x) ? first + y * grid.width + x : grid.cells());
      const int32_t at = place(y, x);
      return at < 0 ? static_cast<int32_t>(count) : at;
    };
    for (int64_t y = 0; y < grid.height; y += size)
      for (int64_t x = 0; x < grid.width; x += size) {
        int32_t places[16];
        for (int64_t k = 0; k < most; k++) places[k] = place(y + k / size, x + k % size);
        if (std::all_of(places, places + most, [](int32_t p) { return p < 0; })) continue;
        if (table) {
          std::copy(places, places + most, outputs + most * tiles);
          for (int64_t k = 0; k < points; k++)
            table[points * tiles + k] = row(y + k / side - 1, x + k % side - 1);
        }
        tiles++;
      }
  }
  return tiles;
}

bool child_tile_table(const int32_t* parent, int64_t count, int64_t begin, int64_t end, int32_t* table) {
  bool valid = true;
  for (int64_t i = begin; i < end; i++)
    for (int64_t k = 0; k < 16; k++) {
      const int64_t y = k / 4 + 1, x = k % 4 + 1;  // children, from the upper left neighbour's on
      const int64_t from = parent[9 * i + y / 2 * 3 + x / 2];
      valid &= from >= 0 && from <= count;
      table[16 * i + k] = static_cast<int32_t>(from == count ? 4 * count : 4 * from + 2 * (y & 1) + (x & 1));
    }
  return valid;
}

bool child_table(const int32_t* parent, int64_t count, int64_t begin, int64_t end, int64_t parent_kernel,
                 int64_t kernel, int32_t* table) {
  const int64_t pad = kernel / 2, parent_pad = parent_kernel / 2, parent_taps = parent_kernel * parent_kernel;
  bool valid = true;
  for (int64_t i = begin; i < end; i++) {
    int32_t* row = table + 4 * i * kernel * kernel;
    for (int64_t child = 0; child < 4; child++)
      for (int64_t ky = 0; ky < kernel; ky++)
        for (int64_t kx = 0; kx < kernel; kx++) {
          const int64_t y = child / 2 + ky - pad, x = child % 2 + kx - pad;
          const int64_t py = (y + 2 * parent_pad) / 2,
                        px = (x + 2 * parent_pad) / 2;  // floor, offset to be >= 0
          const int64_t from = parent[i * parent_taps + py * parent_kernel + px];
          valid &= from >= 0 && from <= count;
          *row++ = static_cast<int32_t>(from == count ? 4 * count : 4 * from + 2 * (y & 1) + (x & 1));
        }
  }
  return valid;
}

}  // namespace pixeltier
