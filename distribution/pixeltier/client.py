"""The Python client: `from pixeltier.client import Client`."""

from pixeltier.service.client import (
    DEFAULT_URL,
    AsyncClient,
    Classification,
    ClassifyOptions,
    Client,
    Cost,
    CostOptions,
    Image,
    PixeltierError,
    Prediction,
    Upscaled,
    UpscaleOptions,
)

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "Classification",
    "ClassifyOptions",
    "Client",
    "Cost",
    "CostOptions",
    "Image",
    "PixeltierError",
    "Prediction",
    "UpscaleOptions",
    "Upscaled",
]
