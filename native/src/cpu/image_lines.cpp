#include "pixeltier/image_lines.h"

#include <algorithm>

#include "bfloat16.h"

namespace pixeltier {
namespace {

template <class T>
void write_line(const PaddedImage& image, int64_t y, T* to) {
  const int64_t channels = image.channels, width = image.width, values = width * channels;
  if (image.bytes) {
    const auto* from = static_cast<const uint8_t*>(image.image) + y * values;
    for (int64_t i = 0; i < values; i++) assign(static_cast<float>(from[i]), to[i]);
    return;
  }
  const auto* planes = static_cast<const float*>(image.image) + y * width;
  for (int64_t c = 0; c < channels; c++, planes += image.height * width)
    for (int64_t x = 0; x < width; x++) assign(255 * planes[x], to[x * channels + c]);
}

template <class T>
void write_lines(const PaddedImage& image, int64_t begin, int64_t end, T* out) {
  const int64_t line = image.columns() * image.channels, margin = image.pad * image.channels;
  for (int64_t i = begin; i < end; i++) {
    T* to = out + i * line;
    const int64_t y = i - image.pad;
    if (y < 0 || y >= image.height) {
      std::fill(to, to + line, T{});
      continue;
    }
    std::fill(to, to + margin, T{});
    write_line(image, y, to + margin);
    std::fill(to + line - margin, to + line, T{});
  }
}

}  // namespace

void image_lines(const PaddedImage& image, int64_t begin, int64_t end, Element element, void* out) {
  if (element == Element::f32)
    write_lines(image, begin, end, static_cast<float*>(out));
  else
    write_lines(image, begin, end, static_cast<BFloat16*>(out));
}

void line_table(const int32_t* active, int64_t begin, int64_t end, int64_t width, int64_t kernel,
                int32_t* table) {
  const int64_t columns = width + kernel / 2 * 2;
  for (int64_t i = begin; i < end; i++) {
    const int64_t first = active[i] / width * columns + active[i] % width;
    for (int64_t t = 0; t < kernel; t++) table[i * kernel + t] = static_cast<int32_t>(first + t * columns);
  }
}

}  // namespace pixeltier
