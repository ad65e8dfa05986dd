#include "pixeltier/pooled_stem.h"

#include <algorithm>
#include <cstring>

#include "pixeltier/pool.h"
#include "thread_scratch.h"

namespace pixeltier {
namespace {

constexpr int64_t kPassLines = 4;  // pooled lines of one pass

// Lines of the convolution in one pass: two for each pooled line, and at an image's or a range's beginning
// the one above.
constexpr int64_t kConvLines = 2 * kPassLines + 1;

// Buffers and sizes of one thread's passes.
template <class T>
class Stem {
 public:
  Stem(const StemArguments& a, const std::vector<int32_t>& table)
      : a_(a),
        pad_(a.conv.taps / 2),
        columns_((a.width + 2 * pad_ + a.stride - 1) / a.stride * a.stride),
        line_(a.conv_width() * a.conv.outputs),
        features_(thread_scratch<T>(kConvLines * line_ + input_size())),
        input_(features_ + kConvLines * line_),
        conv_(a.conv) {
    conv_.rows = input_;
    conv_.row_stride = a.stride * a.channels;
    conv_.row_count = (input_size() - conv_.inputs) / conv_.row_stride;
    conv_.table = table.data();
  }

  void run(int64_t image, Range lines) {
    int64_t y = std::max<int64_t>(0, 2 * lines.begin - 1);
    for (int64_t p = lines.begin; p < lines.end; p += kPassLines) {
      const int64_t last = std::min(lines.end, p + kPassLines), stop = std::min(a_.conv_height(), 2 * last);
      first_ = 2 * p - 1;
      convolve(image, {y, stop});
      for (int64_t q = p; q < last; q++) pool(image, q);
      y = stop;
      std::memcpy(features_, feature_line(stop - 1), line_ * sizeof(T));  // the next pass's first line
    }
  }

 private:
  int64_t input_size() const {
    const int64_t lines = a_.stride * (kConvLines - 1) + a_.conv.taps;
    return lines * columns_ * a_.channels + a_.conv.inputs;
  }

  T* feature_line(int64_t y) { return features_ + (y - first_) * line_; }

  void convolve(int64_t image, Range lines) {
    const int64_t count = lines.end - lines.begin;
    const int64_t top = lines.begin * a_.stride - pad_;
    for (int64_t i = 0; i < a_.stride * (count - 1) + a_.conv.taps; i++) read_line(image, top + i, i);
    conv_.out = feature_line(lines.begin);
    a_.kernel->run(conv_, {0, count * a_.conv_width()}, {0, a_.kernel->layout.blocks(a_.conv.outputs)});
  }

  // Line `y` of the image with zeros around it, as line i of the input.
  void read_line(int64_t image, int64_t y, int64_t i) {
    T* to = input_ + i * columns_ * a_.channels;
    T* const end = to + columns_ * a_.channels;
    if (y >= 0 && y < a_.height) {
      const uint8_t* from = a_.pixels + (image * a_.height + y) * a_.width * a_.channels;
      const T* levels = static_cast<const T*>(a_.levels);
      to = std::fill_n(to, pad_ * a_.channels, T{});
      for (int64_t x = 0; x < a_.width; x++)
        for (int64_t c = 0; c < a_.channels; c++) *to++ = levels[256 * c + *from++];
    }
    std::fill(to, end, T{});
  }

  void pool(int64_t image, int64_t q) {
    const void* lines[3];
    int64_t count = 0;
    for (int64_t y = std::max<int64_t>(0, 2 * q - 1); y < std::min(a_.conv_height(), 2 * q + 2); y++)
      lines[count++] = feature_line(y);
    const int64_t row = (image * a_.pooled_height() + q) * a_.pooled_width();
    max_pool_line(a_.kernel->element, lines, count, a_.conv_width(), a_.conv.outputs,
                  static_cast<T*>(a_.out) + row * a_.conv.outputs);
  }

  const StemArguments& a_;
  int64_t pad_, columns_, line_, first_ = 0;
  T* features_;  // kConvLines lines of the convolution, from line first_ on
  T* input_;     // the lines it reads
  ConvArguments conv_;
};

}  // namespace

std::vector<int32_t> stem_table(const StemArguments& a) {
  const int64_t steps = (a.width + a.conv.taps / 2 * 2 + a.stride - 1) / a.stride;
  std::vector<int32_t> table;
  table.reserve(kConvLines * a.conv_width() * a.conv.taps);
  for (int64_t y = 0; y < kConvLines; y++)
    for (int64_t x = 0; x < a.conv_width(); x++)
      for (int64_t t = 0; t < a.conv.taps; t++)
        table.push_back(static_cast<int32_t>((y * a.stride + t) * steps + x));
  return table;
}

void pooled_stem(const StemArguments& a, const std::vector<int32_t>& table, int64_t image, Range lines) {
  if (a.kernel->element == Element::f32)
    Stem<float>(a, table).run(image, lines);
  else
    Stem<BFloat16>(a, table).run(image, lines);
}

}  // namespace pixeltier
