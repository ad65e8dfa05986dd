// compose: a bicubic enlargement plus what a network adds, as bytes. The CPU's is made of torch's operations.
#include <ATen/ops/upsample_bicubic2d.h>
#include <torch/library.h>

#include "checks.h"

namespace pixeltier {
namespace {

at::Tensor compose(const at::Tensor& x, const at::Tensor& pixels) {
  check_tensor(x, "x", 4, at::kFloat);
  check_tensor(pixels, "pixels", 2, at::kFloat);
  const int64_t images = x.size(0), height = x.size(2), width = x.size(3);
  TORCH_CHECK_VALUE(x.size(1) == 3 && pixels.size(0) == images * height * width && pixels.size(1) == 48,
                    "x must be [N, 3, H, W] and pixels [N * H * W, 48], got ", x.sizes(), " and ",
                    pixels.sizes());
  const auto added = pixels.view({images, height, width, 4, 4, 3}).permute({0, 1, 3, 2, 4, 5});
  auto image =
      at::upsample_bicubic2d(x, {4 * height, 4 * width}, false, 4.0, 4.0).permute({0, 2, 3, 1}).contiguous();
  image.view({images, height, 4, width, 4, 3}).add_(added);
  return image.mul_(255).round_().clamp_(0, 255).to(at::kByte);
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("compose(Tensor x, Tensor pixels) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("compose", c10::DispatchKey::CPU, TORCH_FN(pixeltier::compose));
}
