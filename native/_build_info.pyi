"""What the extension was built with; CMake writes the module."""

TORCH_VERSION: str
"""As torch.__version__ said."""

CUDA: bool
"""Whether kernels for CUDA were compiled in."""
