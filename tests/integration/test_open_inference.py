"""Open Inference Protocol v2: by hand, and with a real client of it where one is installed."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.images import opened, png
from tests.integration.fakes import SLOW, fake_app, running
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


def _input(**changes: Any) -> dict[str, Any]:
    return {**_request(png())["inputs"][0], **changes}


def _output(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"inputs": []}, 422, "inputs"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [1]}]}, 422, "BYTES"),
        ({"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "data": [""]}]}, 422, "shape"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["%%"]}]}, 422, "input image"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [[1]]}]}, 422, "base64"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": LONGER}]}, 422, "fit"),
        ({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [""]}]}, 422, "zero"),
        ({"parameters": {"tier": "turbo"}}, 422, "turbo"),
        ({"parameters": {"treshold": 1}}, 422, "parameters.treshold: there is no such parameter; did you mean thr"),
        ({"parameters": {"threshold": 7}}, 422, "threshold"),
        ({"parameters": {"timeout": "x"}}, 422, "timeout"),
        ({"parameters": {"timeout": -1}}, 422, "timeout"),
        ({"parameters": {"priority": 8}}, 422, "priority"),
        ({"parameters": {"sequence_id": 7, "sequence_start": True}}, 422, "parameters.sequence_id"),
        ({"parameters": {"binary_data_output": "false"}}, 422, "binary_data_output"),
        ({"outputs": [{"name": "nothing"}]}, 422, "nothing"),
        ({"outputs": [{"name": "labels"}, {"name": "labels"}]}, 422, "'labels' is named twice"),
        ({"outputs": [_output("labels", binary=True)]}, 422, "outputs.0.parameters.binary: there is no such"),
        ({"outputs": [_output("labels", binary_data=1)]}, 422, "binary_data"),
        ({"outputs": [_output("labels", shared_memory_region="r")]}, 422, "no shared memory"),
        ({"outputs": [_output("labels", classification=2)]}, 422, "only output 'probabilities' has it"),
        ({"outputs": [_output("importance", classification=2)]}, 422, "only output 'probabilities' has it"),
        ({"outputs": [_output("probabilities", classification=0)]}, 422, "classification"),
        ({"outputs": [_output("probabilities", classification=True)]}, 422, "classification"),
        ({"inputs": [_input(name="input-0")]}, 422, "there is no input 'input-0'; the one input is 'image'"),
        ({"inputs": [_input(), _input(name="mask")]}, 422, "there is no input 'mask'"),
        ({"inputs": [_input(), _input()]}, 422, "given 2 times"),
        ({"inputs": [_input(parameters={"shared_memory_region": "r"})]}, 422, "no shared memory"),
        ({"inputs": [_input(parameters={"size": 1})]}, 422, "inputs.0.parameters.size: there is no such"),
        ({"inputs": [_input(dtype="BYTES")]}, 422, "inputs.0.dtype: there is no such key"),
        ({"inputs": [_input(parameters=LONGER)]}, 422, "not both"),
        ({"output": [{"name": "labels"}]}, 422, "output: there is no such key"),
        ({"model_name": "other"}, 422, "model_name"),
        ({"model_version": "1"}, 422, "model_version"),
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


async def test_what_follows_the_json_belongs_to_an_input(client: httpx.AsyncClient) -> None:
    head = json.dumps(_request(png())).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = await client.post("/v2/models/classify/infer", content=head + b"more", headers=headers)
    assert answer.status_code == 422
    assert "4 bytes follow the JSON" in answer.json()["error"]


async def test_a_key_that_stands_twice_is_refused(client: httpx.AsyncClient) -> None:
    body = json.dumps(_request(png(), tier="fast")).replace(
        '"tier": "fast"', '"tier": "fast", "tier": "exact"'
    )
    answer = await client.post("/v2/models/classify/infer", content=body)
    assert answer.status_code == 422
    assert "duplicate key 'tier'" in answer.json()["error"]


@pytest.mark.parametrize("prefixed", [False, True])
async def test_a_raw_binary_request(client: httpx.AsyncClient, prefixed: bool) -> None:
    """A header length of 0: the body is the image, as `curl --data-binary @cat.png` sends it."""
    body = png(colour=1)
    content = struct.pack("<I", len(body)) + body if prefixed else body
    headers = {"Inference-Header-Content-Length": "0", "X-Tier": "fast"}
    answer = await client.post("/v2/models/classify/infer", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"][0] == "green"
    assert answer.headers["x-tier"] == "fast"


PREDICTED = "0.900100"
"""The fake engine's best probability, 1 - 999e-4, as C prints a float."""


async def test_classification(client: httpx.AsyncClient) -> None:
    """Triton's extension: strings "value:index:label", however many classes the other outputs name."""
    asked = _request(png(colour=2), top_k=2)
    asked["outputs"] = [_output("probabilities", classification=3), {"name": "labels"}]
    answer = await client.post("/v2/models/classify/infer", json=asked)
    assert answer.status_code == 200, answer.text
    classified, labels = answer.json()["outputs"]
    assert classified["name"] == "probabilities"
    assert (classified["datatype"], classified["shape"]) == ("BYTES", [1, 3])
    assert classified["data"][0] == f"{PREDICTED}:2:blue"
    assert [one.split(":")[0] for one in classified["data"][1:]] == ["0.000100"] * 2
    assert labels["shape"] == [1, 2]
    more = _request(png()) | {"outputs": [_output("probabilities", classification=5000)]}
    found = (await client.post("/v2/models/classify/infer", json=more)).json()["outputs"][0]
    assert found["shape"] == [1, 1000]
    none = _request(png()) | {"outputs": [_output("image", classification=1)]}
    answer = await client.post("/v2/models/super-resolve/infer", json=none)
    assert answer.status_code == 422
    assert "this model names no classes" in answer.json()["error"]


async def test_no_outputs_named_means_all(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/models/classify/infer", json=_request(png()) | {"outputs": []})
    assert [one["name"] for one in answer.json()["outputs"]] == ["labels", "indices", "probabilities"]


@pytest.mark.parametrize(
    ("query", "headers", "body", "tier"),
    [
        ("tier=fast", {}, {}, "fast"),
        ("", {"X-Tier": "fast"}, {}, "fast"),
        ("tier=high", {"X-Tier": "fast"}, {}, "high"),
        ("tier=high", {"X-Threshold": "0.5"}, {"tier": "exact"}, "exact"),
        ("threshold=0.5", {}, {"tier": "exact"}, "exact"),
    ],
)
async def test_parameters_of_the_body_over_query_over_header(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], body: dict[str, Any], tier: str
) -> None:
    answer = await client.post(
        f"/v2/models/classify/infer?{query}", json=_request(png(), **body), headers=headers
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-tier"] == answer.json()["parameters"]["tier"] == tier


@pytest.mark.parametrize(
    ("query", "headers", "word"),
    [
        ("tires=fast", {}, "query.tires: there is no such parameter"),
        ("format=png", {}, "query.format"),
        ("tier=fast&tier=exact", {}, "query.tier: the parameter is given twice"),
        ("threshold=7", {}, "query.threshold"),
        ("", {"X-Threshold": "7"}, "header.x-threshold"),
    ],
)
async def test_parameters_that_are_refused_by_name(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], word: str
) -> None:
    answer = await client.post(f"/v2/models/classify/infer?{query}", json=_request(png()), headers=headers)
    assert answer.status_code == 422
    assert word in answer.json()["error"]


async def test_a_timeout_of_the_protocol_is_a_deadline(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v2/models/classify/infer", json=_request(png(), threshold=SLOW, timeout=50_000)
    )
    assert answer.status_code == 504
    no_limit = await client.post("/v2/models/classify/infer", json=_request(png(), timeout=0, priority=5))
    assert no_limit.status_code == 200


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def _triton_image(colour: int = 2) -> Any:
    import tritonclient.http as http  # slow to import: only where it is used

    tensor = http.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([png(7, 5, colour=colour)], dtype=object), binary_data=True)
    return tensor


@pytest.mark.parametrize("binary", [True, False])
def test_with_tritons_client(url: str, binary: bool) -> None:
    import tritonclient.http as http

    client = http.InferenceServerClient(url.removeprefix("http://"))
    outputs = None if binary else [http.InferRequestedOutput("labels", binary_data=False)]
    result = client.infer("classify", [_triton_image()], outputs=outputs, parameters={"tier": "fast"})
    label = result.as_numpy("labels").ravel()[0]
    assert (label.decode() if isinstance(label, bytes) else label) == "blue"
    assert result.get_response()["parameters"]["tier"] == "fast"
    large = client.infer("super-resolve", [_triton_image()]).as_numpy("image")
    assert opened(large[0]).size == (28, 20)
    with pytest.raises(Exception, match="turbo"):
        client.infer("classify", [_triton_image()], parameters={"tier": "turbo"})


REFUSED = {
    "load_model": (("classify",), "models are loaded when the service starts"),
    "unload_model": (("classify",), "models are loaded when the service starts"),
    "update_trace_settings": (("classify", {"trace_rate": "1"}), "--tracing"),
    "get_trace_settings": (("classify",), "--tracing"),
    "update_log_settings": (({"log_info": True},), "--log-level"),
    "get_log_settings": ((), "--log-level"),
    "get_system_shared_memory_status": ((), "no shared memory"),
    "register_system_shared_memory": (("r", "/r", 8), "no shared memory"),
    "unregister_system_shared_memory": (("r",), "no shared memory"),
    "get_cuda_shared_memory_status": (("r",), "no shared memory"),
    "register_cuda_shared_memory": (("r", b"handle", 0, 8), "no shared memory"),
    "unregister_cuda_shared_memory": ((), "no shared memory"),
}
"""Methods that make no sense here: their arguments, and what the error says."""


def _answers(client: Any) -> dict[str, Callable[[], None]]:
    """A check for each method that makes sense here."""
    import tritonclient.http as http

    def metadata() -> None:
        assert client.get_server_metadata()["extensions"] == [
            "binary_tensor_data", "classification", "model_configuration", "parameters", "schedule_policy",
            "statistics",
        ]  # fmt: skip
        (version,) = client.get_model_metadata("classify")["versions"]
        assert client.get_model_metadata("classify", version)["name"] == "classify"

    def ready() -> None:
        assert client.is_model_ready("classify")
        assert client.is_model_ready("classify", "7")
        assert not client.is_model_ready("classify", "8")
        assert not client.is_model_ready("nothing", "7")

    def config() -> None:
        found = client.get_model_config("classify")
        assert found == client.get_model_config("classify", "7")
        assert found["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}]
        assert {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [1, -1]} in found["output"]
        assert found["max_batch_size"] == 0

    def statistics() -> None:
        client.infer("classify", [_triton_image()])
        (of_version,) = client.get_inference_statistics("classify", "7")["model_stats"]
        assert of_version["inference_count"] >= 1
        both = client.get_inference_statistics()["model_stats"]
        assert [one["name"] for one in both] == ["classify", "super-resolve"]

    def index() -> None:
        assert client.get_model_repository_index() == [
            {"name": name, "version": "7", "state": "READY", "reason": ""}
            for name in ("classify", "super-resolve")
        ]

    def infer() -> None:
        asked = [http.InferRequestedOutput("probabilities", class_count=2)]
        result = client.infer("classify", [_triton_image()], model_version="7", outputs=asked)
        assert result.as_numpy("probabilities")[0, 0] == f"{PREDICTED}:2:blue".encode()
        with pytest.raises(Exception, match="the version in force is '7'"):
            client.infer("classify", [_triton_image()], model_version="1")
        client.infer("classify", [_triton_image()], priority=5, timeout=5_000_000, request_id="a")
        client.infer("classify", [_triton_image()], query_params={"tier": "fast"})
        with pytest.raises(Exception, match="sequence_id"):
            client.infer("classify", [_triton_image()], sequence_id=1, sequence_start=True)

    def async_infer() -> None:
        result = client.async_infer("classify", [_triton_image(1)], model_version="7").get_result()
        assert result.as_numpy("labels")[0, 0] == b"green"

    def by_hand() -> None:
        body, size = client.generate_request_body([_triton_image()])
        headers = {"Inference-Header-Content-Length": str(size)}
        root = f"http://{client._parsed_url.host}:{client._parsed_url.port}"
        answer = httpx.post(f"{root}/v2/models/classify/infer", content=body, headers=headers)
        length = int(answer.headers["inference-header-content-length"])
        result = client.parse_response_body(answer.content, header_length=length)
        assert result.as_numpy("labels")[0, 0] == b"blue"

    return {
        "is_server_live": lambda: _true(client.is_server_live()),
        "is_server_ready": lambda: _true(client.is_server_ready()),
        "is_model_ready": ready,
        "get_server_metadata": metadata,
        "get_model_metadata": metadata,
        "get_model_config": config,
        "get_inference_statistics": statistics,
        "get_model_repository_index": index,
        "infer": infer,
        "async_infer": async_infer,
        "generate_request_body": by_hand,
        "parse_response_body": by_hand,
    }


def _true(found: bool) -> None:
    assert found


LOCAL = {"close", "plugin", "register_plugin", "unregister_plugin"}
"""Methods that ask no server."""


def test_every_method_of_tritons_client(url: str) -> None:
    """Each is answered, or refused with a reason; one that a newer client adds fails here until it is decided on."""
    import tritonclient.http as http

    client = http.InferenceServerClient(url.removeprefix("http://"))
    answers = _answers(client)
    methods = {name for name in dir(client) if not name.startswith("_") and callable(getattr(client, name))}
    assert methods - LOCAL == answers.keys() | REFUSED.keys()
    for check in answers.values():
        check()
    for name, (arguments, reason) in REFUSED.items():
        with pytest.raises(Exception, match=reason) as caught:
            getattr(client, name)(*arguments)
        assert caught.value.status() == "404", name
        assert caught.value.message().startswith("not-found: "), name


async def test_tritons_asynchronous_client(url: str) -> None:
    import tritonclient.http.aio as http

    async with http.InferenceServerClient(url.removeprefix("http://")) as client:
        assert await client.is_model_ready("classify", "7")
        assert not await client.is_model_ready("classify", "1")
        assert (await client.infer("classify", [_triton_image()])).as_numpy("labels")[0, 0] == b"blue"


async def test_what_kserves_client_sends(client: httpx.AsyncClient) -> None:
    """It repeats the model's name in the body and expects `ready`, `live` and `error` in JSON."""
    asked = {**_request(png(colour=1)), "model_name": "classify"}
    answer = await client.post("/v2/models/classify/infer", json=asked)
    assert answer.json()["model_name"] == "classify"
    assert (await client.get("/v2/health/ready")).json()["ready"] is True
    assert (await client.get("/v2/health/live")).json()["live"] is True
    refused = await client.post("/v2/models/nothing/infer", json=asked)
    assert refused.headers["content-type"] == "application/json"
    assert "nothing" in refused.json()["error"]
