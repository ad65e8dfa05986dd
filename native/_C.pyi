"""Registers torch.ops.pixeltier; holds nothing."""
# ruff: noqa: N999
