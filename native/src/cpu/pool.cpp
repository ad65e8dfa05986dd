#include "pixeltier/pool.h"

#include <algorithm>

#include "bfloat16.h"
#include "thread_scratch.h"

namespace pixeltier {
namespace {

// Values as keys that compare as fast as they load: a bfloat16's bits are in order once those of negative
// numbers are turned around.
float key(float value) { return value; }

int16_t key(BFloat16 value) {
  const auto bits = static_cast<int16_t>(value.bits);
  return static_cast<int16_t>(bits ^ ((bits >> 15) & 0x7fff));
}

void unlock(float key, float& value) { value = key; }

void unlock(int16_t key, BFloat16& value) {
  value.bits = static_cast<uint16_t>(key ^ ((key >> 15) & 0x7fff));
}

template <class T>
using Key = decltype(key(T{}));

template <class T>
void max_pool(const void* const* lines, int64_t count, int64_t width, int64_t channels, T* out) {
  const int64_t size = width * channels;
  auto* tallest = thread_scratch<Key<T>>(size);
  const T* first = static_cast<const T*>(lines[0]);
  for (int64_t i = 0; i < size; i++) tallest[i] = key(first[i]);
  for (int64_t l = 1; l < count; l++) {
    const T* line = static_cast<const T*>(lines[l]);
    for (int64_t i = 0; i < size; i++) tallest[i] = std::max(tallest[i], key(line[i]));
  }
  for (int64_t x = 0; x < width; x += 2, out += channels) {
    const Key<T>* middle = tallest + x * channels;
    const Key<T>* left = x > 0 ? middle - channels : middle;
    const Key<T>* right = x + 1 < width ? middle + channels : middle;
    for (int64_t c = 0; c < channels; c++) unlock(std::max(std::max(left[c], middle[c]), right[c]), out[c]);
  }
}

template <class T>
void pool_windows(const T* lines, int64_t count, int64_t width, int64_t channels, int64_t window, T* out) {
  auto* sums = thread_scratch<float>(2 * channels);
  auto* peaks = sums + channels;
  for (int64_t begin = 0; begin < width; begin += window, out += 2 * channels) {
    const int64_t end = std::min(begin + window, width);
    std::fill(sums, sums + channels, 0.0f);
    for (int64_t c = 0; c < channels; c++) peaks[c] = to_float(lines[begin * channels + c]);
    for (int64_t y = 0; y < count; y++)
      for (int64_t x = begin; x < end; x++) {
        const T* cell = lines + (y * width + x) * channels;
        for (int64_t c = 0; c < channels; c++) {
          const float value = to_float(cell[c]);
          sums[c] += value;
          peaks[c] = std::max(peaks[c], value);
        }
      }
    const auto cells = static_cast<float>(count * (end - begin));
    for (int64_t c = 0; c < channels; c++) assign(sums[c] / cells, out[c]);
    for (int64_t c = 0; c < channels; c++) assign(peaks[c], out[channels + c]);
  }
}

}  // namespace

void max_pool_line(Element element, const void* const* lines, int64_t count, int64_t width, int64_t channels,
                   void* out) {
  if (element == Element::f32)
    max_pool(lines, count, width, channels, static_cast<float*>(out));
  else
    max_pool(lines, count, width, channels, static_cast<BFloat16*>(out));
}

void pool_window_line(Element element, const void* lines, int64_t count, int64_t width, int64_t channels,
                      int64_t window, void* out) {
  if (element == Element::f32)
    pool_windows(static_cast<const float*>(lines), count, width, channels, window, static_cast<float*>(out));
  else
    pool_windows(static_cast<const BFloat16*>(lines), count, width, channels, window,
                 static_cast<BFloat16*>(out));
}

}  // namespace pixeltier
