// How a network of inverted residuals is computed.
//
// A block's hidden features are its largest: they are made and used a part at a time, while they are in the
// caches. On fine grids a part is a few lines of all channels: `kernel` of them are kept in a ring, each
// output line is filtered and projected as soon as its lines are there, and threads share out the lines. On
// coarse grids, where the weights outweigh the cells, a part is two vectors of channels of the whole image:
// threads share out channels, each weight is read once, and the projection follows when all are filtered.
#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

#include "pixeltier/mbconv_network.h"
#include "pixeltier/team.h"
#include "thread_scratch.h"

namespace pixeltier {
namespace {

constexpr float kMost = 6;  // of ReLU6
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kFineGrid = 28;  // the least width of a block's input for which lines are kept in a ring
constexpr int64_t kLargestKernel = 5;
constexpr int64_t kBeyond = kInt8CellsBeyond * 16;  // elements that may be read behind a thread's last plane

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

Range part_of(int64_t total, int64_t part, int64_t parts) {
  return {total * part / parts, total * (part + 1) / parts};
}

// One axis of a convolution with SAME padding: where the padding is odd, the larger part is behind.
struct Axis {
  int64_t size, outputs, padded, before;

  Axis(int64_t size, int64_t kernel, int64_t stride)
      : size(size),
        outputs(divide_up(size, stride)),
        padded(std::max((outputs - 1) * stride + kernel, size)),
        before((padded - size) / 2) {}
};

struct Grid {
  Axis y, x;

  Grid(int64_t height, int64_t width, const MbBlock& block)
      : y(height, block.kernel, block.stride), x(width, block.kernel, block.stride) {}
  int64_t cells() const { return y.size * x.size; }
  int64_t output_cells() const { return y.outputs * x.outputs; }
};

// In how many parts two dimensions are cut so that the busiest of `threads` has least to do.
struct Split {
  int64_t first, second;

  // The first dimension is cut rather than the second.
  Split(int64_t firsts, int64_t seconds, int64_t threads) : first(1), second(1) {
    constexpr double kClearlyLess = 0.95;
    auto least = static_cast<double>(firsts * seconds);
    for (int64_t n = std::min(firsts, threads); n >= 1; n--) {
      const int64_t m = std::min(seconds, std::max<int64_t>(1, threads / n));
      const auto work = static_cast<double>(divide_up(firsts, n) * divide_up(seconds, m));
      if (work < least * kClearlyLess) {
        least = work;
        first = n;
        second = m;
      }
    }
  }
};

// Lines of an image as inputs of the stem with padding around them: the kStemKernel that were last asked for.
template <class T>
class PixelLines {
 public:
  PixelLines(const MbInput& input, T zero, T* memory)
      : input_(input),
        zero_(zero),
        y_(input.height, kStemKernel, kStemStride),
        x_(input.width, kStemKernel, kStemStride),
        memory_(memory) {
    std::fill_n(memory, size(input), zero);
  }

  static int64_t size(const MbInput& input) {
    return kStemKernel * Axis(input.width, kStemKernel, kStemStride).padded * kColours + kInt8Depth;
  }
  int64_t line_size() const { return x_.padded * kColours; }

  // The lines that the stem's output line `line` reads, one after the other.
  const T* read(int64_t image, int64_t line) {
    for (int64_t t = 0; t < kStemKernel; t++) {
      T* to = memory_ + t * line_size();
      const int64_t y = line * kStemStride + t - y_.before;
      const bool known = line == last_ + 1 && t < kStemKernel - kStemStride;
      if (known)
        std::memcpy(to, to + kStemStride * line_size(), line_size() * sizeof(T));
      else if (y < 0 || y >= input_.height)
        std::fill_n(to, line_size(), zero_);
      else
        convert((image * input_.height + y) * input_.width * kColours, to + x_.before * kColours);
    }
    last_ = line;
    return memory_;
  }

 private:
  void convert(int64_t from, uint8_t* to) const {
    std::memcpy(to, input_.bytes + from, input_.width * kColours);
  }

  void convert(int64_t from, float* to) const {
    const int64_t count = input_.width * kColours;
    if (!input_.bytes) {
      std::memcpy(to, input_.values + from, count * sizeof(float));
      return;
    }
    const uint8_t* bytes = input_.bytes + from;
    for (int64_t i = 0; i < count; i += kColours)
      for (int64_t c = 0; c < kColours; c++) to[i + c] = input_.levels[256 * c + bytes[i + c]];
  }

  const MbInput& input_;
  T zero_;
  Axis y_, x_;
  T* memory_;
  int64_t last_ = -2;
};

// T: what features are held as, float or uint8_t.
template <class T>
class Run {
 public:
  Run(const MbNetwork& network, const uint8_t* packed, const MbInput& input, const MbOutput& output,
      int64_t threads)
      : n_(network),
        kernel_(network.kernel()),
        packed_(packed),
        input_(input),
        output_(output),
        threads_(threads) {
    int64_t height = divide_up(input.height, kStemStride), width = divide_up(input.width, kStemStride);
    int64_t fine = 0, coarse = 0, filtered = 0;
    for (size_t b = 0; b < blocks().size(); b++) {
      const Grid& grid = grids_.emplace_back(height, width, blocks()[b]);
      if (by_lines(b)) {
        fine_blocks_ = b + 1;
        fine = std::max(fine, output_size(b));
        coarse = output_size(b);  // of the last one, all images' are kept
      } else {
        coarse = std::max(coarse, output_size(b));
        filtered = std::max(filtered, grid.output_cells() * n_.padded(blocks()[b].hidden));
      }
      height = grid.y.outputs;
      width = grid.x.outputs;
    }
    cells_ = height * width;
    for (auto& rows : fine_) rows = allocate(fine);
    for (auto& rows : coarse_) rows = allocate(input.images * coarse);
    filtered_ = allocate(input.images * filtered);
    pooled_ = allocate(input.images * n_.padded(n_.shape().head));
  }

  void run(Team& team) const {
    for (int64_t image = 0; image < input_.images; image++) run_fine(image, team);
    const T* from = coarse_[0].get();
    for (size_t b = fine_blocks_; b < blocks().size(); b++) {
      T* to = coarse_[(b - fine_blocks_ + 1) % 2].get();
      run_channels(b, from, to, team);
      keep(b, to, 0, input_.images, team);
      from = to;
    }
    run_head(from, team);
    run_linear(team);
  }

 private:
  using Memory = std::unique_ptr<T, void (*)(void*)>;
  static constexpr bool kInt8 = sizeof(T) == 1;

  static Memory allocate(int64_t count) {
    const size_t bytes = divide_up(std::max<int64_t>(count, 1) * sizeof(T), 64) * 64;
    auto* memory = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (!memory) throw std::bad_alloc();
    return {memory, &std::free};
  }

  const std::vector<MbBlock>& blocks() const { return n_.shape().blocks; }
  // Elements of a block's output for one image.
  int64_t output_size(size_t block) const {
    return grids_[block].output_cells() * n_.padded(blocks()[block].outputs);
  }
  bool by_lines(size_t block) const { return block == 0 || grids_[block].x.size >= kFineGrid; }

  const float* floats(int64_t offset, int64_t vector = 0) const {
    return reinterpret_cast<const float*>(packed_ + offset) + vector * kernel_.lanes;
  }
  float extra(const MbLayer& layer) const { return kInt8 ? *floats(layer.extra) : 0; }
  const void* weight(const MbLayer& layer, int64_t vector) const {
    return packed_ + layer.weight + vector * n_.panel(layer) * (kInt8 ? 1 : sizeof(float));
  }

  PointwiseArguments pointwise(const MbLayer& layer, int64_t vector) const {
    PointwiseArguments a{};
    a.row_stride = n_.padded(layer.inputs);
    a.taps = layer.taps;
    a.inputs = layer.inputs;
    a.weight = weight(layer, vector);
    a.bias = floats(layer.bias, vector);
    a.scale = floats(layer.scale, vector);
    a.low = -kInfinity;
    a.high = kInfinity;
    a.out_stride = n_.padded(layer.outputs);
    a.vector_stride = kernel_.lanes;
    return a;
  }

  // One vector of one output line, from a plane of its padded lines of which line y is at slot y % slots.
  void filter(size_t b, int64_t vector, int64_t line, const T* plane, int64_t slots, T* out) const {
    const Grid& grid = grids_[b];
    const MbBlock& block = blocks()[b];
    const MbLayer& layer = n_.depthwise(b);
    const void* lines[kLargestKernel];
    for (int64_t t = 0; t < block.kernel; t++) {
      const int64_t y = line * block.stride + t - grid.y.before;
      const bool inside = y >= 0 && y < grid.y.size;
      lines[t] = inside ? plane + y % slots * grid.x.padded * kernel_.lanes : nullptr;
    }
    DepthwiseArguments a{};
    a.lines = lines;
    a.kernel = block.kernel;
    a.stride = block.stride;
    a.width = grid.x.outputs;
    a.weight = weight(layer, vector);
    a.bias = floats(layer.bias, vector);
    a.scale = floats(layer.scale, vector);
    a.low = 0;
    a.high = kMost;
    a.out = out;
    a.out_stride = n_.padded(block.hidden);
    kernel_.depthwise(a);
  }

  // The rows [rows) of a block's output, vectors [vectors), from filtered rows.
  void project(size_t b, const T* filtered, const T* from, T* to, Range rows, Range vectors) const {
    const MbBlock& block = blocks()[b];
    PointwiseArguments a = pointwise(n_.projection(b), vectors.begin);
    const int64_t first = rows.begin * a.out_stride + vectors.begin * kernel_.lanes;
    a.rows = filtered;
    a.out = to + first;
    a.residual = block.residual() ? from + first : nullptr;
    a.residual_stride = a.out_stride;
    a.residual_factor = extra(n_.projection(b));
    kernel_.pointwise(a, rows.end - rows.begin, vectors.end - vectors.begin);
  }

  // Zeros for the padding at both ends of `count` lines.
  void clear_padding(const Grid& grid, T* lines, int64_t count) const {
    const int64_t lanes = kernel_.lanes, before = grid.x.before * lanes,
                  behind = (grid.x.padded - grid.x.size) * lanes - before;
    for (int64_t i = 0; i < count; i++, lines += grid.x.padded * lanes) {
      std::fill_n(lines, before, T{});
      std::fill_n(lines + grid.x.padded * lanes - behind, behind, T{});
    }
  }

  // The blocks on fine grids, of one image.
  void run_fine(int64_t image, Team& team) const {
    const T* from = nullptr;
    for (size_t b = 0; b < fine_blocks_; b++) {
      const bool last = b + 1 == fine_blocks_;
      T* to = last ? coarse_[0].get() + image * output_size(b) : fine_[b % 2].get();
      const int64_t lines = grids_[b].y.outputs, ranges = std::min(lines, threads_);
      team.share(ranges, [&](int64_t task) { lines_task(b, image, part_of(lines, task, ranges), from, to); });
      keep(b, to, image, 1, team);
      from = to;
    }
  }

  // Copies a block's output of some images to where the caller wants it.
  void keep(size_t b, const T* features, int64_t image, int64_t images, Team& team) const {
    if (!output_.kept || static_cast<int64_t>(b) != output_.kept_block) return;
    team.share(1, [&](int64_t) {
      std::copy_n(features, images * output_size(b), static_cast<T*>(output_.kept) + image * output_size(b));
    });
  }

  // Some lines of the output of one image, from and to that image's features.
  void lines_task(size_t b, int64_t image, Range lines, const T* from, T* to) const {
    const Grid& grid = grids_[b];
    const MbBlock& block = blocks()[b];
    const int64_t lanes = kernel_.lanes, vectors = n_.vectors(block.hidden), slots = block.kernel,
                  plane = slots * grid.x.padded * lanes, width = grid.x.outputs;
    const int64_t pixels = b == 0 ? PixelLines<T>::size(input_) : 0;
    auto* filtered = thread_scratch<T>(vectors * (width * lanes + plane) + pixels + kBeyond);
    T* planes = filtered + vectors * width * lanes;
    std::optional<PixelLines<T>> image_lines;
    if (b == 0) image_lines.emplace(input_, static_cast<T>(extra(n_.expansion(0))), planes + vectors * plane);
    clear_padding(grid, planes, vectors * slots);
    int64_t next = std::max<int64_t>(0, lines.begin * block.stride - grid.y.before);
    for (int64_t line = lines.begin; line < lines.end; line++) {
      const int64_t stop = std::min(grid.y.size, line * block.stride - grid.y.before + block.kernel);
      for (; next < stop; next++) {
        T* out = planes + (next % slots * grid.x.padded + grid.x.before) * lanes;
        expand_line(b, image, next, from, image_lines ? &*image_lines : nullptr, out, plane);
      }
      for (int64_t v = 0; v < vectors; v++)
        filter(b, v, line, planes + v * plane, slots, filtered + v * lanes);
      const int64_t row = line * width;
      project(b, filtered, from, to, {row, row + width}, {0, n_.vectors(block.outputs)});
    }
  }

  void expand_line(size_t b, int64_t image, int64_t line, const T* from, PixelLines<T>* pixels, T* out,
                   int64_t plane) const {
    const Grid& grid = grids_[b];
    PointwiseArguments a = pointwise(n_.expansion(b), 0);
    if (pixels) {
      a.rows = pixels->read(image, line);
      a.row_stride = kStemStride * kColours;
      a.tap_stride = pixels->line_size();
    } else {
      a.rows = from + line * grid.x.size * a.row_stride;
    }
    a.low = 0;
    a.high = kMost;
    a.out = out;
    a.out_stride = kernel_.lanes;
    a.vector_stride = plane;
    kernel_.pointwise(a, grid.x.size, n_.vectors(blocks()[b].hidden));
  }

  void run_channels(size_t b, const T* from, T* to, Team& team) const {
    const MbBlock& block = blocks()[b];
    const int64_t vectors = n_.vectors(block.hidden), outputs = n_.vectors(block.outputs),
                  rows = input_.images * grids_[b].output_cells();
    const Split made(vectors, input_.images, threads_);
    team.share(made.first * made.second, [&](int64_t task) {
      channels_task(b, part_of(input_.images, task % made.second, made.second),
                    part_of(vectors, task / made.second, made.first), from);
    });
    const int64_t row_blocks = divide_up(rows, kernel_.rows);
    const bool few = outputs * kernel_.lanes > rows;
    const Split split(few ? outputs : row_blocks, few ? row_blocks : outputs, threads_);
    const int64_t row_parts = few ? split.second : split.first,
                  vector_parts = few ? split.first : split.second;
    team.share(row_parts * vector_parts, [&](int64_t task) {
      const Range part = part_of(rows, task % row_parts, row_parts);
      project(b, filtered_.get() + part.begin * n_.padded(block.hidden), from, to, part,
              part_of(outputs, task / row_parts, vector_parts));
    });
  }

  // Expansion and filter of the hidden vectors [vectors) of some images.
  void channels_task(size_t b, Range images, Range vectors, const T* from) const {
    const Grid& grid = grids_[b];
    const int64_t lanes = kernel_.lanes, plane = grid.y.size * grid.x.padded * lanes,
                  width = n_.padded(blocks()[b].hidden);
    auto* planes = thread_scratch<T>(kernel_.vectors * plane + kBeyond);
    clear_padding(grid, planes, kernel_.vectors * grid.y.size);
    for (int64_t v = vectors.begin; v < vectors.end; v += kernel_.vectors) {
      const int64_t count = std::min(kernel_.vectors, vectors.end - v);
      PointwiseArguments a = pointwise(n_.expansion(b), v);
      a.low = 0;
      a.high = kMost;
      a.out_stride = lanes;
      a.vector_stride = plane;
      for (int64_t image = images.begin; image < images.end; image++) {
        for (int64_t line = 0; line < grid.y.size; line++) {
          a.rows = from + (image * grid.y.size + line) * grid.x.size * a.row_stride;
          a.out = planes + (line * grid.x.padded + grid.x.before) * lanes;
          kernel_.pointwise(a, grid.x.size, count);
        }
        T* out = filtered_.get() + image * grid.output_cells() * width + v * lanes;
        for (int64_t line = 0; line < grid.y.outputs; line++, out += grid.x.outputs * width)
          for (int64_t c = 0; c < count; c++)
            filter(b, v + c, line, planes + c * plane, grid.y.size, out + c * lanes);
      }
    }
  }

  void run_head(const T* from, Team& team) const {
    const int64_t vectors = n_.vectors(n_.shape().head), width = n_.padded(n_.shape().head);
    const Split split(vectors, 1, threads_);
    team.share(split.first, [&](int64_t task) {
      const Range part = part_of(vectors, task, split.first);
      PointwiseArguments a = pointwise(n_.head(), part.begin);
      a.rows = from;
      a.low = 0;
      a.high = kMost;
      a.to_float = true;
      a.out = output_.features + part.begin * kernel_.lanes;
      kernel_.pointwise(a, input_.images * cells_, part.end - part.begin);
      for (int64_t image = 0; image < input_.images; image++)
        pool(output_.features + image * cells_ * width, pooled_.get() + image * width, width,
             {part.begin * kernel_.lanes, part.end * kernel_.lanes});
    });
  }

  // Means over the cells of one image: [channels) of rows, as inputs of the linear layer.
  void pool(const float* rows, T* means, int64_t width, Range channels) const {
    const int64_t count = channels.end - channels.begin;
    auto* sums = thread_scratch<float>(count);
    std::fill_n(sums, count, 0.0f);
    for (int64_t i = 0; i < cells_; i++)
      for (int64_t c = 0; c < count; c++) sums[c] += rows[i * width + channels.begin + c];
    for (int64_t c = 0; c < count; c++) {
      const float mean = sums[c] / static_cast<float>(cells_);
      means[channels.begin + c] = kInt8 ? nearest_byte(mean * extra(n_.linear())) : static_cast<T>(mean);
    }
  }

  // Rounded to nearest even: behind 2^23 there is no place for a fraction.
  static T nearest_byte(float value) {
    constexpr float kNoFraction = 1 << 23;
    return static_cast<T>(std::min(std::max(value, 0.0f), 255.0f) + kNoFraction - kNoFraction);
  }

  void run_linear(Team& team) const {
    const int64_t vectors = n_.vectors(n_.shape().classes);
    const Split split(vectors, 1, threads_);
    team.share(split.first, [&](int64_t task) {
      const Range part = part_of(vectors, task, split.first);
      PointwiseArguments a = pointwise(n_.linear(), part.begin);
      a.rows = pooled_.get();
      a.to_float = true;
      a.out = output_.logits + part.begin * kernel_.lanes;
      kernel_.pointwise(a, input_.images, part.end - part.begin);
    });
  }

  const MbNetwork& n_;
  const MbKernel& kernel_;
  const uint8_t* packed_;
  const MbInput& input_;
  const MbOutput& output_;
  int64_t threads_;
  std::vector<Grid> grids_;
  size_t fine_blocks_ = 0;
  int64_t cells_ = 0;  // of the last features of an image
  // What blocks make, in turns: on fine grids of one image, on coarse ones of all.
  Memory fine_[2]{{nullptr, &std::free}, {nullptr, &std::free}};
  Memory coarse_[2]{{nullptr, &std::free}, {nullptr, &std::free}};
  Memory filtered_{nullptr, &std::free};  // a block's hidden features behind its depthwise convolution
  Memory pooled_{nullptr, &std::free};
};

}  // namespace

namespace {

template <class T>
void run(const MbNetwork& network, const uint8_t* packed, const MbInput& input, const MbOutput& output,
         int64_t threads, const ParallelFor& parallel) {
  const Run<T> together(network, packed, input, output, threads);
  Team team;
  if (threads == 1) return together.run(team);
  parallel(threads, [&](int64_t begin, int64_t) {
    if (begin > 0) return team.help(begin);
    try {
      together.run(team);
    } catch (...) {
      team.finish();
      throw;
    }
    team.finish();
  });
}

// The images from `first` on.
MbInput images_of(MbInput input, int64_t first, int64_t count) {
  const int64_t size = input.height * input.width * kColours;
  input.images = count;
  if (input.bytes) input.bytes += first * size;
  if (input.values) input.values += first * size;
  return input;
}

MbOutput images_of(const MbNetwork& network, const MbInput& input, const MbOutput& output, int64_t first) {
  const MbShape& shape = network.shape();
  const auto cells = [&](int64_t blocks) { return network.cells(input.height, input.width, blocks); };
  MbOutput images = output;
  images.features += first * cells(static_cast<int64_t>(shape.blocks.size())) * network.padded(shape.head);
  images.logits += first * network.padded(shape.classes);
  if (output.kept) {
    const int64_t element = network.kernel().element == MbElement::f32 ? sizeof(float) : sizeof(uint8_t);
    const int64_t width = network.padded(shape.blocks[output.kept_block].outputs);
    images.kept = static_cast<uint8_t*>(output.kept) + first * cells(output.kept_block + 1) * width * element;
  }
  return images;
}

}  // namespace

// As many images as give each thread the same number are computed without any thread waiting for another.
void run_mbconv_network(const MbNetwork& network, const uint8_t* packed, const MbInput& input,
                        const MbOutput& output, int64_t threads, const ParallelFor& parallel) {
  threads = std::min(threads, Team::kMost);
  const auto run_images = network.kernel().element == MbElement::f32 ? &run<float> : &run<uint8_t>;
  const auto run_some = [&](int64_t first, int64_t count, int64_t team) {
    if (count > 0)
      run_images(network, packed, images_of(input, first, count), images_of(network, input, output, first),
                 team, parallel);
  };
  const int64_t each = input.images / threads;
  if (each > 0)
    parallel(threads, [&](int64_t begin, int64_t end) { run_some(begin * each, (end - begin) * each, 1); });
  run_some(each * threads, input.images - each * threads, threads);
}

}  // namespace pixeltier
