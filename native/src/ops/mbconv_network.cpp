// mbconv_network: a whole network of inverted residuals in one call; prepack_mbconv: its weights' layout.
#include "pixeltier/mbconv_network.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "checks.h"
#include "convolution.h"
#include "isa.h"

namespace pixeltier {
namespace {

// Of the description: head and classes, then five numbers a block.
constexpr int64_t kHeadNumbers = 2, kBlockNumbers = 5;

MbShape parse_shape(at::IntArrayRef numbers) {
  const auto count = static_cast<int64_t>(numbers.size());
  TORCH_CHECK_VALUE(
      count > kHeadNumbers && (count - kHeadNumbers) % kBlockNumbers == 0,
      "shape must be head, classes and five numbers (inputs, hidden, outputs, kernel, stride) for "
      "each of at least one block, got ",
      count, " numbers");
  MbShape shape{{}, numbers[0], numbers[1]};
  for (const int64_t number : numbers)
    TORCH_CHECK_VALUE(number >= 1, "shape's numbers must be at least 1, got ", number);
  for (int64_t i = kHeadNumbers; i < count; i += kBlockNumbers) {
    const MbBlock block{numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3], numbers[i + 4]};
    TORCH_CHECK_VALUE(block.kernel == 3 || block.kernel == 5, "a block's kernel must be 3 or 5, got ",
                      block.kernel);
    TORCH_CHECK_VALUE(block.stride <= 2, "a block's stride must be 1 or 2, got ", block.stride);
    const int64_t before = shape.blocks.empty() ? block.hidden : shape.blocks.back().outputs;
    TORCH_CHECK_VALUE(block.inputs == before, "a block's inputs must be the ", before,
                      " channels before it (of the first block, its hidden ones), got ", block.inputs);
    TORCH_CHECK_VALUE(
        !shape.blocks.empty() || !block.residual(),
        "the first block must change its channels or have a stride of 2: the stem's features are not "
        "kept for a residual");
    shape.blocks.push_back(block);
  }
  return shape;
}

MbNetwork network_of(at::IntArrayRef shape, at::ScalarType dtype, const std::string& isa) {
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kChar, "dtype must be float32 or int8, got ", dtype);
  const MbElement element = dtype == at::kFloat ? MbElement::f32 : MbElement::int8;
  const MbKernel* kernel = find_mbconv_kernel(require_isa(isa), element);
  TORCH_CHECK_TYPE(kernel, "instruction set '", isa, "' has no kernel for ", dtype);
  return {*kernel, parse_shape(shape)};
}

int64_t mbconv_packed_size(at::IntArrayRef shape, at::ScalarType dtype, const std::string& isa) {
  return network_of(shape, dtype, isa).packed_size();
}

void check_values(const at::Tensor& values, const char* name, size_t layer, int64_t outputs) {
  check_tensor(values, name, 1, at::kFloat);
  TORCH_CHECK_VALUE(values.size(0) == outputs, name, " ", layer, " must have ", outputs, " values, got ",
                    values.size(0));
}

at::Tensor prepack_mbconv(at::TensorList weights, at::TensorList biases, at::TensorList scales,
                          at::ArrayRef<double> extras, at::IntArrayRef shape, at::ScalarType dtype,
                          const std::string& isa) {
  const MbNetwork network = network_of(shape, dtype, isa);
  const auto& layers = network.layers();
  const bool int8 = dtype == at::kChar;
  const size_t count = layers.size(), scaled = int8 ? count : 0;
  TORCH_CHECK_VALUE(weights.size() == count && biases.size() == count, "a network of this shape has ", count,
                    " weights and biases, got ", weights.size(), " and ", biases.size());
  TORCH_CHECK_VALUE(scales.size() == scaled && extras.size() == scaled, "a network of ", dtype, " has ",
                    scaled, " scales and extras, got ", scales.size(), " and ", extras.size());
  for (size_t i = 0; i < count; i++) {
    const MbLayer& layer = layers[i];
    check_tensor(weights[i], "weight", 3, dtype);
    const int64_t expected[] = {layer.outputs, layer.taps, layer.inputs};
    TORCH_CHECK_VALUE(weights[i].sizes() == at::IntArrayRef(expected), "weight ", i, " must be ",
                      at::IntArrayRef(expected), ", got ", weights[i].sizes());
    check_values(biases[i], "bias", i, layer.outputs);
    if (int8) check_values(scales[i], "scale", i, layer.outputs);
  }
  auto packed = at::zeros({network.packed_size()}, weights[0].options().dtype(at::kByte));
  for (size_t i = 0; i < count; i++) {
    const MbLayerValues values{weights[i].const_data_ptr(), biases[i].const_data_ptr<float>(),
                               int8 ? scales[i].const_data_ptr<float>() : nullptr,
                               int8 ? static_cast<float>(extras[i]) : 0};
    network.pack(layers[i], values, packed.mutable_data_ptr<uint8_t>());
  }
  return packed;
}

MbInput check_input(const at::Tensor& pixels, const std::optional<at::Tensor>& levels, bool int8) {
  const bool bytes = pixels.scalar_type() == at::kByte;
  check_tensor(pixels, "pixels", 4, bytes ? at::kByte : at::kFloat);
  TORCH_CHECK_VALUE(pixels.size(3) == kColours, "pixels must be [images, height, width, 3], got ",
                    pixels.sizes());
  check_grid(pixels.size(0), pixels.size(1), pixels.size(2));
  TORCH_CHECK_TYPE(bytes || !int8, "a network of int8 takes pixels of uint8, got ", pixels.scalar_type());
  TORCH_CHECK_VALUE(levels.has_value() == (bytes && !int8),
                    "levels go with pixels of uint8 and a network of float32, and only with them");
  MbInput input{pixels.size(0), pixels.size(1), pixels.size(2), nullptr, nullptr, nullptr};
  if (!bytes) {
    input.values = pixels.const_data_ptr<float>();
    return input;
  }
  input.bytes = pixels.const_data_ptr<uint8_t>();
  if (int8) return input;
  check_tensor(*levels, "levels", 2, at::kFloat);
  TORCH_CHECK_VALUE(levels->size(0) == kColours && levels->size(1) == 256, "levels must be [3, 256], got ",
                    levels->sizes());
  input.levels = levels->const_data_ptr<float>();
  return input;
}

at::Tensor narrowed(const at::Tensor& padded, int64_t columns) {
  return padded.size(1) == columns ? padded : padded.narrow(1, 0, columns).contiguous();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> mbconv_network(const at::Tensor& pixels,
                                                              const std::optional<at::Tensor>& levels,
                                                              const at::Tensor& packed, at::IntArrayRef shape,
                                                              at::ScalarType dtype, int64_t kept_block,
                                                              std::string isa) {
  const MbNetwork network = network_of(shape, dtype, isa);
  const MbInput input = check_input(pixels, levels, dtype == at::kChar);
  check_tensor(packed, "packed", 1, at::kByte);
  TORCH_CHECK_VALUE(packed.size(0) == network.packed_size(), "a network of this shape has ",
                    network.packed_size(), " bytes of packed weights on ", isa, ", got ", packed.size(0));
  const MbShape& s = network.shape();
  const auto blocks = static_cast<int64_t>(s.blocks.size());
  TORCH_CHECK_VALUE(kept_block >= -1 && kept_block < blocks, "kept_block must be -1 or one of ", blocks,
                    " blocks, got ", kept_block);
  const int64_t rows = input.images * network.cells(input.height, input.width, blocks);
  const auto options = packed.options().dtype(at::kFloat);
  auto features = empty_rows(rows, network.padded(s.head), options);
  auto logits = at::empty({input.images, network.padded(s.classes)}, options);
  const bool keeps = kept_block >= 0;
  const int64_t kept_outputs = keeps ? s.blocks[kept_block].outputs : 0;
  const int64_t kept_rows =
      keeps ? input.images * network.cells(input.height, input.width, kept_block + 1) : 0;
  auto kept = at::empty({kept_rows, network.padded(kept_outputs)},
                        options.dtype(dtype == at::kChar ? at::kByte : at::kFloat));
  run_mbconv_network(network, packed.const_data_ptr<uint8_t>(), input,
                     {features.mutable_data_ptr<float>(), logits.mutable_data_ptr<float>(),
                      keeps ? kept.mutable_data_ptr() : nullptr, kept_block},
                     at::in_parallel_region() ? 1 : at::get_num_threads(),
                     [](int64_t count, const std::function<void(int64_t, int64_t)>& run) {
                       at::parallel_for(0, count, 1, run);
                     });
  return {narrowed(logits, s.classes), narrowed(features, s.head), narrowed(kept, kept_outputs)};
}

}  // namespace
}  // namespace pixeltier

TORCH_LIBRARY_FRAGMENT(pixeltier, m) {
  m.def("mbconv_packed_size(int[] shape, ScalarType dtype, str isa) -> int", pixeltier::mbconv_packed_size);
  m.def(
      "prepack_mbconv(Tensor[] weights, Tensor[] biases, Tensor[] scales, float[] extras, int[] shape, "
      "ScalarType dtype, str isa) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.impl("prepack_mbconv", c10::DispatchKey::CPU, TORCH_FN(pixeltier::prepack_mbconv));
  m.def(
      "mbconv_network(Tensor pixels, Tensor? levels, Tensor packed, int[] shape, ScalarType dtype, int "
      "kept_block, "
      "str isa) -> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
  m.impl("mbconv_network", c10::DispatchKey::CPU, TORCH_FN(pixeltier::mbconv_network));
}
