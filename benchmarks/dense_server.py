"""The rival service: LitServe with the plain dense ResNet-18 of the same weights, in eager torch, bf16 where we use it.

    python -m benchmarks.dense_server --port 8100 --slots 2 --threads 1

As its documentation has it: the image as base64 in JSON, decoding in `decode_request`, the model in `predict`,
`workers_per_device` processes.
"""

import argparse
import base64
import io
import os
from typing import Any

import litserve
import torch
from PIL import Image

from benchmarks.rivals import PlainResNet18, prepare
from pixeltier.models.checkpoints import load_classification
from pixeltier.models.images import DEVIATION, MEAN, classify_input
from pixeltier.models.precision import FAST_BF16
from pixeltier.native import cpu_isa

THREADS = "DENSE_SERVER_THREADS"


class Dense(litserve.LitAPI):  # type: ignore[misc]
    """The API of one worker."""

    def setup(self, device: str) -> None:
        """Load the network."""
        del device
        threads = int(os.environ[THREADS])
        torch.set_num_threads(threads)
        model, _ = load_classification(None)
        example = torch.zeros(1, 3, 224, 224)
        dtype = torch.bfloat16 if cpu_isa() in FAST_BF16 else torch.float32
        run = prepare("torch", PlainResNet18(model.refinement), example, dtype, threads)
        if run is None:
            raise SystemExit("torch does not run this precision")
        self.run = run
        self.mean = 255 * torch.tensor(MEAN).view(1, 3, 1, 1)
        self.scale = 1 / (255 * torch.tensor(DEVIATION).view(1, 3, 1, 1))

    def decode_request(self, request: dict[str, str]) -> Any:
        """JSON to pixels, float32 [1, 3, 224, 224]."""
        body = base64.b64decode(request["image"])
        pixels = classify_input(Image.open(io.BytesIO(body)).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()

    def predict(self, pixels: Any) -> Any:
        """The best five classes."""
        with torch.inference_mode():
            return self.run((pixels - self.mean) * self.scale).softmax(1)[0].topk(5)

    def encode_response(self, best: Any) -> dict[str, Any]:
        """To JSON."""
        return {"probabilities": best.values.tolist(), "indices": best.indices.tolist()}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    os.environ[THREADS] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    server = litserve.LitServer(
        Dense(), accelerator="cpu", workers_per_device=options.slots, timeout=60, track_requests=False
    )
    server.run(port=options.port, host="127.0.0.1", generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
