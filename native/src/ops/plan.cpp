// plan, plan_padded: importance and a threshold per image to the list of active cells.
#include "pixeltier/plan.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include "checks.h"

namespace pixeltier {
namespace {

at::Tensor plan(const at::Tensor& importance, const at::Tensor& threshold, bool keep_best) {
  check_tensor(importance, "importance", 3, at::kFloat);
  check_tensor(threshold, "threshold", 1, at::kFloat);
  const int64_t images = importance.size(0), cells = importance.size(1) * importance.size(2);
  TORCH_CHECK_VALUE(threshold.size(0) == images, "threshold must have one value for each of the ", images,
                    " images, got ", threshold.size(0));
  check_grid(images, importance.size(1), importance.size(2));
  const auto* values = importance.const_data_ptr<float>();
  const auto* thresholds = threshold.const_data_ptr<float>();
  int64_t count = 0;
  for (int64_t n = 0; n < images; n++)
    count += plan_image(values + n * cells, cells, thresholds[n], keep_best, 0, nullptr);
  auto active = at::empty({count}, importance.options().dtype(at::kInt));
  auto* to = active.mutable_data_ptr<int32_t>();
  for (int64_t n = 0; n < images; n++)
    to +=
        plan_image(values + n * cells, cells, thresholds[n], keep_best, static_cast<int32_t>(n * cells), to);
  return active;
}

// At its full length, so that a device need not tell the host how many cells are active.
std::tuple<at::Tensor, at::Tensor> plan_padded(const at::Tensor& importance, const at::Tensor& threshold,
                                               bool keep_best) {
  const auto list = plan(importance, threshold, keep_best);
  const int64_t images = importance.size(0), cells = importance.size(1) * importance.size(2);
  auto active = at::full({images * cells}, -1, list.options());
  active.narrow(0, 0, list.size(0)).copy_(list);
  return {active, list.div(cells, "floor").bincount({}, images).to(at::kInt)};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("plan(Tensor importance, Tensor threshold, bool keep_best) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.impl("plan", c10::DispatchKey::CPU, TORCH_FN(pixeltier::plan));
  m.def("plan_padded(Tensor importance, Tensor threshold, bool keep_best) -> (Tensor, Tensor)",
        {at::Tag::pt2_compliant_tag});
  m.impl("plan_padded", c10::DispatchKey::CPU, TORCH_FN(pixeltier::plan_padded));
}
