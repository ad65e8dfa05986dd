// compose: a bicubic enlargement plus what a network adds, as bytes.
#include "pixeltier/compose.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"

namespace pixeltier {
namespace {

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
  at::parallel_for(0, grid.images * grid.height, 4, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; line++) compose_line(base, added, grid, line, to);
  });
  return image;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("compose(Tensor x, Tensor pixels) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("compose", c10::DispatchKey::CPU, TORCH_FN(pixeltier::compose));
}
