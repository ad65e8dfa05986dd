// plan and plan_padded on CUDA.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../checks.h"
#include "device.h"

namespace pixeltier {
namespace {

std::tuple<at::Tensor, at::Tensor> plan_padded(const at::Tensor& importance, const at::Tensor& threshold,
                                               bool keep_best) {
  const at::Device device = importance.device();
  check_cuda_tensor(importance, "importance", 3, at::kFloat, device);
  check_cuda_tensor(threshold, "threshold", 1, at::kFloat, device);
  const int64_t images = importance.size(0), cells = importance.size(1) * importance.size(2);
  TORCH_CHECK_VALUE(threshold.size(0) == images, "threshold must have one value for each of the ", images,
                    " images, got ", threshold.size(0));
  check_grid(images, importance.size(1), importance.size(2));
  const c10::cuda::CUDAGuard guard(device);
  const auto numbers = importance.options().dtype(at::kInt);
  auto active = at::empty({images * cells}, numbers), counts = at::empty({images}, numbers);
  auto scratch = at::empty({cuda_plan_scratch_bytes(images, cells)}, importance.options().dtype(at::kByte));
  cuda_plan(current_queue(device), importance.const_data_ptr<float>(), threshold.const_data_ptr<float>(),
            keep_best, images, cells, scratch.mutable_data_ptr(), active.mutable_data_ptr<int32_t>(),
            counts.mutable_data_ptr<int32_t>());
  return {active, counts};
}

// Without its padding; this is the one op that waits for the device.
at::Tensor plan(const at::Tensor& importance, const at::Tensor& threshold, bool keep_best) {
  const auto [active, counts] = plan_padded(importance, threshold, keep_best);
  return active.narrow(0, 0, counts.sum().item<int64_t>());
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_IMPL(pixeltier, CUDA, m) {
  m.impl("plan", TORCH_FN(pixeltier::plan));
  m.impl("plan_padded", TORCH_FN(pixeltier::plan_padded));
}
