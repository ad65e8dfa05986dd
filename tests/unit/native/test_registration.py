"""Schemas, fake kernels and tracing of every op."""

from __future__ import annotations

import pytest
import torch

from pixeltier.native import mbconv, ops

OPS = torch.ops.pixeltier
ACTIVE = torch.tensor([0, 2, 3, 5], dtype=torch.int32)
TABLE = ops.packed_table(ACTIVE, 1, 2, 3, 3)


def small_network() -> mbconv.Network:
    def layer(*size: int) -> mbconv.Layer:
        return mbconv.Layer(torch.rand(size), torch.rand(size[0]))

    block = mbconv.Block(layer(8, 3, 3, 3), layer(8, 1, 5, 5), layer(4, 8, 1, 1), 2)
    return mbconv.Network((block,), layer(12, 4, 1, 1), layer(5, 12))


def samples() -> dict[str, tuple[object, ...]]:
    packed = ops.prepack_weight(torch.rand(8, 8, 3, 3), torch.rand(8), torch.zeros(8))
    stem = ops.prepack_weight(torch.rand(8, 21, 7, 1), torch.rand(8))
    network = mbconv.prepack(small_network())
    layers = [mbconv._by_taps(layer.weight, index == 0) for index, layer in enumerate(small_network().layers)]
    rows = torch.rand(5, 8)
    fixed = (packed.weight, packed.bias, packed.slope)
    return {
        "plan": (torch.rand(2, 3, 4), torch.full((2,), 0.5), True),
        "plan_padded": (torch.rand(2, 3, 4), torch.full((2,), 0.5), True),
        "gather_rows": (torch.rand(7, 8), ACTIVE),
        "compose": (torch.rand(1, 3, 2, 5), torch.rand(10, 48)),
        "pool_windows": (torch.rand(7, 8), 1, 2, 3, 2),
        "pooled_stem": (
            torch.zeros(1, 5, 4, 3, dtype=torch.uint8),
            torch.rand(3, 256),
            *(stem.weight, stem.bias, stem.slope, 8, 7, 2, stem.isa),
        ),
        "prepack_mbconv": (
            layers,
            [torch.rand(len(layer)) for layer in layers],
            *([], [], network.shape, torch.float32, "portable"),
        ),
        "mbconv_network": (
            torch.rand(2, 9, 7, 3),
            None,
            *(network.weights, network.shape, network.dtype, 0, network.isa),
        ),
        "dense_table": (ACTIVE, 1, 4, 6, 3, 2),
        "packed_table": (ACTIVE, 1, 2, 3, 3),
        "child_table": (TABLE, 3),
        "prepack_weight": (torch.rand(8, 8, 3, 3), torch.float32, 2, "portable"),
        "sparse_conv2d": (rows, TABLE, *fixed, torch.rand(5, 8), 8, 1, 576, packed.isa),
        "sparse_conv2d_scatter_": (torch.rand(7, 8), rows, TABLE, *fixed, ACTIVE, 8, packed.isa),
        "sparse_residual_body": (rows, TABLE, *([value] * 3 for value in fixed), 1728, packed.isa),
    }


@pytest.mark.parametrize("name", samples())
def test_opcheck(name):
    torch.library.opcheck(getattr(OPS, name).default, samples()[name])


def test_traces_with_an_active_list_of_unknown_length():
    packed = ops.prepack_weight(torch.rand(8, 8, 3, 3), torch.rand(8))

    def forward(importance: torch.Tensor, threshold: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        active = ops.plan(importance, threshold)
        table = ops.dense_table(active, 1, 4, 4, 3)
        return ops.sparse_conv2d(rows, table, packed)[0] * 2

    arguments = torch.rand(1, 4, 4), torch.full((1,), 0.5), torch.rand(17, 8)
    compiled = torch.compile(forward, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.no_grad():
        assert torch.equal(compiled(*arguments), forward(*arguments))
