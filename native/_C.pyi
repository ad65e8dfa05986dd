"""Registers torch.ops.pixeltier; holds nothing."""
