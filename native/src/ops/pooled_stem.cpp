// pooled_stem: from the bytes of images to the pooled features of their first convolution.
#include "pixeltier/pooled_stem.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <numeric>

#include "checks.h"
#include "convolution.h"

namespace pixeltier {
namespace {

at::Tensor pooled_stem_op(const at::Tensor& pixels, const at::Tensor& levels, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& slope,
                          int64_t outputs, int64_t kernel_size, int64_t stride, std::string isa) {
  check_tensor(pixels, "pixels", 4, at::kByte);
  TORCH_CHECK_TYPE(levels.scalar_type() == at::kFloat || levels.scalar_type() == at::kBFloat16,
                   "levels must be float32 or bfloat16, got ", levels.scalar_type());
  const RowKernel& kernel = require_kernel(isa, levels.scalar_type());
  check_tensor(levels, "levels", 2, levels.scalar_type());
  check_kernel(kernel_size);
  TORCH_CHECK_VALUE(stride >= 1 && stride <= 8, "stride must be between 1 and 8, got ", stride);
  const int64_t images = pixels.size(0), channels = pixels.size(3);
  check_grid(images, pixels.size(1), pixels.size(2));
  TORCH_CHECK_VALUE(levels.size(0) == channels && levels.size(1) == 256, "levels must be [", channels,
                    ", 256], a value for each byte of each channel, got ", levels.sizes());
  const auto no_rows = levels.new_empty({1, kernel_size * channels});
  const auto no_table = pixels.new_empty({0, kernel_size}, at::kInt);
  const PackedConvolution c = check_convolution(no_rows, no_table, weight, bias, slope, outputs, isa);

  StemArguments a{};
  a.pixels = pixels.const_data_ptr<uint8_t>();
  a.levels = levels.const_data_ptr();
  a.height = pixels.size(1);
  a.width = pixels.size(2);
  a.channels = channels;
  a.stride = stride;
  a.kernel = &kernel;
  a.conv = conv_arguments(c, no_rows, no_table);
  const int64_t lines = a.pooled_height();
  auto out = empty_rows(images * lines * a.pooled_width(), outputs, levels.options());
  a.out = out.mutable_data_ptr();
  const std::vector<int32_t> table = stem_table(a);
  // As few ranges of an image as give every thread the same number.
  const int64_t threads = at::get_num_threads(),
                ranges = threads / std::gcd(std::max<int64_t>(images, 1), threads);
  at::parallel_for(0, images * ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t part = task % ranges;
      pooled_stem(a, table, task / ranges, {lines * part / ranges, lines * (part + 1) / ranges});
    }
  });
  return out;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def(
      "pooled_stem(Tensor pixels, Tensor levels, Tensor weight, Tensor? bias, Tensor? slope, int outputs, "
      "int kernel, int stride, str isa) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.impl("pooled_stem", c10::DispatchKey::CPU, TORCH_FN(pixeltier::pooled_stem_op));
}
