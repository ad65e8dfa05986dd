// image_lines, line_table: an image as overlapping rows for a convolution over few channels, and where it
// reads.
#include "pixeltier/image_lines.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"
#include "pixeltier/plan.h"

namespace pixeltier {
namespace {

PaddedImage check_image(const at::Tensor& image, int64_t kernel) {
  const bool bytes = image.scalar_type() == at::kByte;
  TORCH_CHECK_TYPE(bytes || image.scalar_type() == at::kFloat, "image must be uint8 or float32, got ",
                   image.scalar_type());
  check_tensor(image, "image", 3, image.scalar_type());
  check_kernel(kernel);
  const auto sizes = image.sizes();
  const PaddedImage padded = bytes ? PaddedImage{nullptr, true, sizes[2], sizes[0], sizes[1], kernel / 2}
                                   : PaddedImage{nullptr, false, sizes[0], sizes[1], sizes[2], kernel / 2};
  TORCH_CHECK_VALUE(padded.channels >= 1, "image must have a channel at least, got shape ", sizes);
  check_grid(1, padded.height, padded.width);
  check_grid(1, padded.lines(), padded.columns());
  return padded;
}

at::Tensor image_lines_op(const at::Tensor& image, int64_t kernel, at::ScalarType dtype) {
  const Element element = element_of(dtype);
  PaddedImage padded = check_image(image, kernel);
  padded.image = image.const_data_ptr();
  const int64_t values = padded.lines() * padded.columns() * padded.channels;
  auto out = at::empty({values + kernel * padded.channels}, image.options().dtype(dtype));
  constexpr int64_t kValuesOfATask = 16384;
  const int64_t grain = std::max<int64_t>(1, kValuesOfATask / (padded.columns() * padded.channels));
  at::parallel_for(0, padded.lines(), grain, [&](int64_t begin, int64_t end) {
    image_lines(padded, begin, end, element, out.mutable_data_ptr());
  });
  out.narrow(0, values, kernel * padded.channels).zero_();
  return out;
}

at::Tensor line_table_op(const at::Tensor& active, int64_t height, int64_t width, int64_t kernel) {
  check_tensor(active, "active", 1, at::kInt);
  check_kernel(kernel);
  check_grid(1, height, width);
  check_grid(1, height + kernel / 2 * 2, width + kernel / 2 * 2);
  const auto* cells = active.const_data_ptr<int32_t>();
  const int64_t count = active.size(0), wrong = first_invalid(cells, count, height * width);
  TORCH_CHECK_INDEX(wrong < 0, "active must ascend strictly within the ", height * width,
                    " cells of the grid, got ", cells[wrong], " at position ", wrong);
  auto table = at::empty({count, kernel}, active.options());
  auto* to = table.mutable_data_ptr<int32_t>();
  at::parallel_for(0, count, 4096,
                   [&](int64_t begin, int64_t end) { line_table(cells, begin, end, width, kernel, to); });
  return table;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("image_lines(Tensor image, int kernel, ScalarType dtype) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("image_lines", c10::DispatchKey::CPU, TORCH_FN(pixeltier::image_lines_op));
  m.def("line_table(Tensor active, SymInt height, SymInt width, int kernel) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.impl("line_table", c10::DispatchKey::CPU, TORCH_FN(pixeltier::line_table_op));
}
