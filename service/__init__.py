"""Pixeltier's HTTP service: one front process without torch, workers that have it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pixeltier")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
