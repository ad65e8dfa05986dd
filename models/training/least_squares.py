"""Last layers in closed form: a linear map from a network's pooled features to another network's answers."""

import torch
from torch import Tensor, nn


class LinearFit:
    """Ridge regression, fed batch by batch.

    Args:
        inputs, outputs: sizes of the features and of the targets.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self._gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self._product = torch.zeros(inputs + 1, outputs, dtype=torch.float64)
        self._count = 0

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Take in features [N, inputs] and targets [N, outputs]."""
        rows = torch.nn.functional.pad(features.detach().cpu().float(), (0, 1), value=1.0)
        self._gram += (rows.t() @ rows).double()
        self._product += (rows.t() @ targets.detach().cpu().float()).double()
        self._count += len(rows)

    @torch.no_grad()
    def solve(self, layer: nn.Linear, strength: float = 1e-3) -> None:
        """Write the solution into a layer; `strength`: of the ridge, in units of the features' mean square.

        Raises:
            ValueError: nothing was taken in.
        """
        if not self._count:
            raise ValueError("a linear layer cannot be fitted to no images")
        gram = self._gram / self._count
        ridge = strength * gram.diagonal()[:-1].mean() * torch.ones(len(gram), dtype=torch.float64)
        ridge[-1] = 0.0  # the bias is free
        solved = torch.linalg.solve(gram + torch.diag(ridge), self._product / self._count).float()
        layer.weight.copy_(solved[:-1].t())
        layer.bias.copy_(solved[-1])
