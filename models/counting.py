"""The counting rule: one MAC per multiply-add of convolutions and linear layers (docs/counting.md). Torch-free.

Bias, activation, pooling and resampling are not counted, and padding counts like any other input, as is usual.
"""

SRRESNET_BODY_BLOCKS = 16


def conv_macs(inputs: int, outputs: int, kernel: int) -> int:
    """MACs of one output cell of a convolution."""
    return inputs * outputs * kernel * kernel


def srresnet_dense(channels: int = 64, blocks: int = SRRESNET_BODY_BLOCKS) -> int:
    """MACs per low-resolution pixel of the plain SRResNet x4: the reference that savings are measured against."""
    head = conv_macs(3, channels, 9)
    body = (2 * blocks + 1) * conv_macs(channels, channels, 3)
    up = (1 + 4) * conv_macs(channels, 4 * channels, 3)
    tail = 16 * conv_macs(channels, 3, 9)
    return head + body + up + tail


def window_importance(base_channels: int, importance_channels: int) -> int:
    """MACs per low-resolution pixel of the super-resolver's importance network."""
    return conv_macs(base_channels, importance_channels, 1) + conv_macs(importance_channels, 8, 3) + 8


def srresnet_body(channels: int, base_channels: int, blocks: int) -> int:
    """MACs of one active cell before the upsampling tail: the head, the base's features joined in, the blocks, the last
    layer."""
    entry = conv_macs(3, channels, 9) + conv_macs(base_channels, channels, 1)
    return entry + (2 * blocks + 1) * conv_macs(channels, channels, 3)


def srresnet_tail(channels: int) -> int:
    """MACs of one active cell's tail: two upsampling layers, the second on four children, and the last on sixteen."""
    return 5 * conv_macs(channels, 4 * channels, 3) + 16 * conv_macs(channels, 3, 9)


def espan(channels: int = 32, blocks: int = 5, block_layers: int = 3, last_block_layers: int = 2) -> int:
    """MACs per low-resolution pixel of ESPAN x4."""
    layers = blocks * block_layers + last_block_layers + 1
    head, body = conv_macs(3, channels, 9), layers * conv_macs(channels, channels, 3)
    return head + body + conv_macs(4 * channels, channels, 1) + conv_macs(channels, 48, 3)


def resnet18_stage_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Grids of the four stages for an input of height x width."""
    sizes = [(_half(_half(height)), _half(_half(width)))]
    for _ in range(3):
        sizes.append((_half(sizes[-1][0]), _half(sizes[-1][1])))
    return sizes


def resnet18_image(height: int, width: int, classes: int, context_channels: int = 0) -> int:
    """MACs of one image beside its cells, where it has an active one: stem, 1x1 downsamples, classifier, and a 1x1 that
    takes features of `context_channels` in after the third stage."""
    sizes = resnet18_stage_sizes(height, width)
    stem = _half(height) * _half(width) * conv_macs(3, 64, 7)
    downsamples = sum(
        rows * columns * conv_macs(64 << stage, 128 << stage, 1)
        for stage, (rows, columns) in enumerate(sizes[1:])
    )
    fuse = sizes[2][0] * sizes[2][1] * conv_macs(context_channels, 256, 1)
    return stem + downsamples + fuse + 512 * classes


def resnet18_cell(stage: int) -> int:
    """MACs of one active cell of a stage (0 to 3): four 3x3 convolutions, the first of which may widen."""
    outputs = 64 << stage
    inputs = outputs if stage == 0 else outputs // 2
    return conv_macs(inputs, outputs, 3) + 3 * conv_macs(outputs, outputs, 3)


def resnet18_dense(height: int, width: int, classes: int = 1000) -> int:
    """MACs of the plain ResNet-18 on one image."""
    sizes = resnet18_stage_sizes(height, width)
    cells = sum(h * w * resnet18_cell(stage) for stage, (h, w) in enumerate(sizes))
    return resnet18_image(height, width, classes) + cells


def class_evidence(cells: int, features: int, classes: int, doubt_classes: int, doubt_hidden: int) -> int:
    """MACs of one image's importance: the expected class's weights, their product with every cell, and the doubt."""
    return features * (classes + cells) + doubt_hidden * (doubt_classes + 1)


def inverted_residual(
    height: int, width: int, inputs: int, hidden: int, outputs: int, kernel: int, stride: int
) -> int:
    """MACs of an inverted residual on a grid of height x width; where hidden equals inputs it has no expansion."""
    expand = 0 if hidden == inputs else height * width * conv_macs(inputs, hidden, 1)
    cells = -(-height // stride) * -(-width // stride)
    return expand + cells * (hidden * kernel * kernel + conv_macs(hidden, outputs, 1))


def _half(size: int) -> int:
    """Output size of a stride 2 layer with 'same' padding."""
    return (size + 1) // 2
