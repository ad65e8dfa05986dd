"""The networks on native sparse kernels: the same numbers as models.networks, at the cost of the active cells."""
