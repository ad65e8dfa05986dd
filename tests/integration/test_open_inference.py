"""Open Inference Protocol v2: by hand, and with a real client of it where one is installed."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.images import opened, png
from tests.integration.fakes import fake_app, running
from tests.integration.server import serving


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app()) as client:
        yield client


def _request(body: bytes, **parameters: Any) -> dict[str, Any]:
    data = [base64.b64encode(body).decode()]
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
    return {"id": "a1", "inputs": [tensor], "parameters": parameters}


async def test_metadata_and_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2")).json()["name"] == "pixeltier"
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).status_code == 200
    for model in ("classify", "super-resolve"):
        assert (await client.get(f"/v2/models/{model}")).json()["inputs"][0]["datatype"] == "BYTES"
        assert (await client.get(f"/v2/models/{model}/ready")).json()["ready"]
    answer = await client.get("/v2/models/nothing")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


async def test_infer_in_json(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v2/models/classify/infer", json=_request(png(colour=1), tier="fast", top_k=2)
    )
    document = answer.json()
    assert document["id"] == "a1"
    assert document["model_name"] == "classify"
    outputs = {tensor["name"]: tensor for tensor in document["outputs"]}
    assert outputs["labels"]["data"][0] == "green"
    assert outputs["labels"]["shape"] == [1, 2]
    assert document["parameters"]["tier"] == answer.headers["x-tier"] == "fast"
    assert document["parameters"]["macs_executed"] == int(answer.headers["x-macs-executed"])
    metrics = (await client.get("/metrics")).text
    assert 'pixeltier_requests_total{model="classify",outcome="ok",tier="fast"} 1.0' in metrics


async def test_super_resolve_in_json(client: httpx.AsyncClient) -> None:
    asked = _request(png(5, 3), format="webp", threshold=0.5)
    asked["outputs"] = [{"name": "image"}, {"name": "importance"}]
    answer = await client.post("/v2/models/super-resolve/infer", json=asked)
    image, importance = answer.json()["outputs"]
    assert image["parameters"] == {"content_type": "base64"}
    assert opened(base64.b64decode(image["data"][0])).size == (20, 12)
    assert importance["shape"] == [3, 5]
    assert len(importance["data"]) == 15


async def test_binary_data_both_ways(client: httpx.AsyncClient) -> None:
    body = png(6, 2)
    tail = struct.pack("<I", len(body)) + body
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(tail)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await client.post("/v2/models/super-resolve/infer", content=head + tail, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:length])
    size = document["outputs"][0]["parameters"]["binary_data_size"]
    assert opened(answer.content[length + 4 : length + size]).size == (24, 8)


LONGER = {"binary_data_size": 9}


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"inputs": []}, 422, "inputs"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}, 422, "BYTES"),
        ({"inputs": [{"name": "x", "shape": [2], "datatype": "BYTES", "data": ["", ""]}]}, 422, "shape"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["%%"]}]}, 422, "input x"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [[1]]}]}, 422, "base64"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "parameters": LONGER}]}, 422, "fit"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}]}, 422, "zero"),
        ({"parameters": {"tier": "turbo"}}, 422, "turbo"),
        ({"parameters": {"treshold": 1}}, 422, "treshold"),
        ({"parameters": {"threshold": 7}}, 422, "threshold"),
        ({"parameters": {"timeout": "x"}}, 422, "timeout"),
        ({"outputs": [{"name": "nothing"}]}, 422, "nothing"),
    ],
)  # fmt: skip
async def test_errors(client: httpx.AsyncClient, change: dict[str, Any], status: int, word: str) -> None:
    answer = await client.post("/v2/models/classify/infer", json=_request(png()) | change)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert word in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"])
async def test_no_json(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v2/models/classify/infer", content=body)
    assert answer.status_code == 422
    assert "error" in answer.json()
    header = {"Inference-Header-Content-Length": "99999999"}
    assert (await client.post("/v2/models/classify/infer", content=body, headers=header)).status_code == 422


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.mark.parametrize("binary", [True, False])
def test_with_tritons_client(url: str, binary: bool) -> None:
    import tritonclient.http as http  # slow to import: only where it is used

    client = http.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("classify")
    assert client.get_model_metadata("super-resolve")["name"] == "super-resolve"
    tensor = http.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([png(7, 5, colour=2)], dtype=object), binary_data=True)
    outputs = None if binary else [http.InferRequestedOutput("labels", binary_data=False)]
    result = client.infer("classify", [tensor], outputs=outputs, parameters={"tier": "fast"})
    label = result.as_numpy("labels").ravel()[0]
    assert (label.decode() if isinstance(label, bytes) else label) == "blue"
    assert result.get_response()["parameters"]["tier"] == "fast"
    large = client.infer("super-resolve", [tensor]).as_numpy("image")
    assert opened(large[0]).size == (28, 20)
    with pytest.raises(Exception, match="turbo"):
        client.infer("classify", [tensor], parameters={"tier": "turbo"})
