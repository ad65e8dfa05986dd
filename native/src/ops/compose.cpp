// compose: a bicubic enlargement plus what a network adds, held to the input, as bytes.
#include "pixeltier/compose.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "checks.h"

namespace pixeltier {
namespace {

constexpr int64_t kLeastRows = 32, kMostRows = 128;  // of a band; the most bounds the scratch memory

at::Tensor compose(const at::Tensor& x, const at::Tensor& pixels) {
  check_tensor(x, "x", 4, at::kFloat);
  check_tensor(pixels, "pixels", 2, at::kFloat);
  const Grid grid{x.size(0), x.size(2), x.size(3)};
  check_grid(grid.images, grid.height, grid.width);
  TORCH_CHECK_VALUE(x.size(1) == 3 && pixels.size(0) == grid.cells() && pixels.size(1) == 48,
                    "x must be [N, 3, H, W] and pixels [N * H * W, 48], got ", x.sizes(), " and ",
                    pixels.sizes());
  auto image = at::empty({grid.images, 4 * grid.height, 4 * grid.width, 3}, x.options().dtype(at::kByte));
  const auto* base = x.const_data_ptr<float>();
  const auto* added = pixels.const_data_ptr<float>();
  auto* to = image.mutable_data_ptr<uint8_t>();
  // Neighbouring bands compute the rows between them twice: few bands, but some for each thread.
  const int64_t rows = std::clamp<int64_t>(
      (grid.images * grid.height + at::get_num_threads() - 1) / at::get_num_threads(), kLeastRows, kMostRows);
  const int64_t bands = (grid.height + rows - 1) / rows;
  at::parallel_for(0, grid.images * bands, 1, [&](int64_t begin, int64_t end) {
    for (int64_t band = begin; band < end; band++) {
      const int64_t first = band % bands * rows;
      compose_rows(base, added, grid, band / bands, first, std::min(first + rows, grid.height), to);
    }
  });
  return image;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("compose(Tensor x, Tensor pixels) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("compose", c10::DispatchKey::CPU, TORCH_FN(pixeltier::compose));
}
