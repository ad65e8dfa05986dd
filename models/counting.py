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


def srresnet_light(channels: int, base_channels: int, base_layers: int) -> int:
    """MACs per low-resolution pixel of what runs everywhere beside importance: head and base."""
    head = conv_macs(3, channels, 9)
    base = conv_macs(channels, base_channels, 1) + base_layers * conv_macs(base_channels, base_channels, 3)
    return head + base + conv_macs(base_channels, 48, 3)


def srresnet_importance(base_channels: int, importance_channels: int) -> int:
    """MACs per low-resolution pixel of the importance network."""
    return conv_macs(base_channels, importance_channels, 1) + conv_macs(importance_channels, 8, 3) + 8


def srresnet_body(channels: int, base_channels: int, blocks: int) -> int:
    """MACs of one active cell before the upsampling tail: the base's features joined in, the blocks, the last layer."""
    return conv_macs(base_channels, channels, 1) + (2 * blocks + 1) * conv_macs(channels, channels, 3)


def srresnet_tail(channels: int) -> int:
    """MACs of one active cell's tail: two upsampling layers, the second on four children, and the last on sixteen."""
    return 5 * conv_macs(channels, 4 * channels, 3) + 16 * conv_macs(channels, 3, 9)


def resnet18_stage_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Grids of the four stages for an input of height x width."""
    sizes = [(_half(_half(height)), _half(_half(width)))]
    for _ in range(3):
        sizes.append((_half(sizes[-1][0]), _half(sizes[-1][1])))
    return sizes


def resnet18_always(height: int, width: int, classes: int) -> int:
    """MACs of one image that no threshold can save: stem, 1x1 downsamples, classifier."""
    stem = _half(height) * _half(width) * conv_macs(3, 64, 7)
    downsamples = sum(
        rows * columns * conv_macs(64 << stage, 128 << stage, 1)
        for stage, (rows, columns) in enumerate(resnet18_stage_sizes(height, width)[1:])
    )
    return stem + downsamples + 512 * classes


def resnet18_cell(stage: int) -> int:
    """MACs of one active cell of a stage (0 to 3): four 3x3 convolutions, the first of which may widen."""
    outputs = 64 << stage
    inputs = outputs if stage == 0 else outputs // 2
    return conv_macs(inputs, outputs, 3) + 3 * conv_macs(outputs, outputs, 3)


def resnet18_dense(height: int, width: int, classes: int = 1000) -> int:
    """MACs of the plain ResNet-18 on one image."""
    sizes = resnet18_stage_sizes(height, width)
    cells = sum(h * w * resnet18_cell(stage) for stage, (h, w) in enumerate(sizes))
    return resnet18_always(height, width, classes) + cells


def resnet18_importance(height: int, width: int, channels: int, window: int) -> int:
    """MACs of the importance network on one image."""
    rows, columns = resnet18_stage_sizes(height, width)[0]
    near = -(-rows // window) * -(-columns // window)
    far = _half(-(-rows // window)) * _half(-(-columns // window))
    wide = channels + channels // 2
    encoder = near * conv_macs(128, channels, 3) + far * (
        conv_macs(channels, wide, 3) + conv_macs(wide, wide, 3)
    )
    return encoder + wide * wide + far * wide * channels + near * conv_macs(channels, 1, 3)


def _half(size: int) -> int:
    """Output size of a stride 2 layer with 'same' padding."""
    return (size + 1) // 2
