// pool_windows: means and maxima of a grid's windows.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "checks.h"
#include "convolution.h"
#include "pixeltier/pool.h"

namespace pixeltier {
namespace {

at::Tensor pool_windows(const at::Tensor& rows, int64_t images, int64_t height, int64_t width,
                        int64_t window) {
  const Element element = element_of(rows.scalar_type());
  check_tensor(rows, "rows", 2, rows.scalar_type());
  check_grid(images, height, width);
  TORCH_CHECK_VALUE(window >= 1, "window must be at least 1, got ", window);
  TORCH_CHECK_VALUE(rows.size(0) >= images * height * width, "a grid of ", images, " x ", height, " x ",
                    width, " has more cells than there are rows: ", rows.size(0));
  const int64_t channels = rows.size(1);
  const int64_t down = (height + window - 1) / window, across = (width + window - 1) / window;
  auto out = empty_rows(images * down * across, 2 * channels, rows.options());
  const auto* from = static_cast<const char*>(rows.const_data_ptr());
  auto* to = static_cast<char*>(out.mutable_data_ptr());
  const int64_t row_bytes = channels * rows.element_size();
  at::parallel_for(0, images * down, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t top = i % down * window, line = i / down * height + top;
      pool_window_line(element, from + line * width * row_bytes, std::min(window, height - top), width,
                       channels, window, to + i * across * 2 * row_bytes);
    }
  });
  return out;
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("pool_windows(Tensor rows, int images, int height, int width, int window) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.impl("pool_windows", c10::DispatchKey::CPU, TORCH_FN(pixeltier::pool_windows));
}
