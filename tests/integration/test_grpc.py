"""The Open Inference Protocol over gRPC, by Triton's own client against the real server."""

from __future__ import annotations

import builtins
import io
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from pixeltier.service import grpc_server
from pixeltier.service.api import access, tensors
from pixeltier.service.api.routes import open_inference
from pixeltier.service.configuration.settings import ConfigurationError, Settings
from pixeltier.service.grpc_server import open_inference as pb
from pixeltier.service.grpc_server import servicer
from pixeltier.service.grpc_server.listening import check_installed
from pixeltier.service.grpc_server.translate import request_of
from pixeltier.service.server.listening import listening_sockets
from pixeltier.service.server.serve import Server, uvicorn_config
from pixeltier.service.work.pool import WorkerState
from tests.images import encoded, photo, png
from tests.integration.fakes import SLOW, fake_app
from tests.integration.server import BothPorts, serving_grpc
from tests.tier_table import tiers_file

FOLDER = Path(__file__).parents[2] / "service/grpc_server"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothPorts]:
    with serving_grpc(tiers_file=tiers_file(tmp_path_factory.mktemp("tiers"))) as ports:
        yield ports


@pytest.fixture
def client(served: BothPorts) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.grpc) as one:
        yield one


def images(*bodies: bytes) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [len(bodies)], "BYTES")
    tensor.set_data_from_numpy(np.array(bodies, dtype=np.object_))
    return [tensor]


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("classify")
    assert client.get_server_metadata().name == "pixeltier"
    metadata = client.get_model_metadata("super-resolve")
    assert (metadata.inputs[0].name, metadata.inputs[0].datatype) == ("image", "BYTES")
    assert [one.name for one in metadata.outputs] == ["image", "importance"]
    version = metadata.versions[0]
    assert client.is_model_ready("classify", client.get_model_metadata("classify").versions[0])
    assert client.get_model_metadata("super-resolve", version).versions == [version]
    code, said = refused(lambda: client.get_model_metadata("segment"))
    assert code == "StatusCode.NOT_FOUND"
    assert "there is no model 'segment'" in said
    assert refused(lambda: client.is_model_ready("classify", "none"))[0] == "StatusCode.NOT_FOUND"
    assert refused(lambda: client.get_model_metadata("classify/versions/1"))[0] == "StatusCode.NOT_FOUND"
    assert refused(lambda: client.get_model_metadata("stats"))[0] == "StatusCode.NOT_FOUND"


def test_classify(client: triton.InferenceServerClient, served: BothPorts) -> None:
    red = encoded(Image.new("RGB", (40, 30), "red"), "PNG")
    result = client.infer(
        "classify", images(red), request_id="mine", parameters={"tier": "exact", "top_k": 2}
    )
    assert result.as_numpy("indices").ravel()[0] == 0
    assert result.as_numpy("probabilities").shape[-1] == 2
    answer = result.get_response()
    assert answer.id == "mine"
    assert answer.parameters["tier"].string_param == "exact"
    assert 0 < answer.parameters["macs_executed"].int64_param <= answer.parameters["macs_dense"].int64_param
    by_http = httpx.post(f"{served.http}/v1/classify?tier=exact", content=red).headers
    assert int(by_http["x-macs-executed"]) == answer.parameters["macs_executed"].int64_param


def test_the_classification_extension(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    found = client.infer("classify", images(png()), outputs=wanted).as_numpy("probabilities").ravel()
    assert len(found) == 3
    assert all(len(one.decode().split(":")) == 3 for one in found)


def test_super_resolve(client: triton.InferenceServerClient) -> None:
    result = client.infer("super-resolve", images(png(10, 8)), parameters={"scale": 2, "format": "webp"})
    with Image.open(io.BytesIO(result.as_numpy("image").ravel()[0])) as image:
        assert (image.format, image.size) == ("WEBP", (20, 16))


def test_several_images_are_one_tensor(client: triton.InferenceServerClient) -> None:
    found = client.infer("super-resolve", images(png(4, 4), png(5, 5), png(6, 6))).as_numpy("image")
    sizes = [Image.open(io.BytesIO(one)).size for one in found.ravel()]
    assert sizes == [(16, 16), (20, 20), (24, 24)]
    code, said = refused(lambda: client.infer("classify", images(png(), b"no image")))
    assert code == "StatusCode.INVALID_ARGUMENT"
    assert "image 1: " in said


def test_contents_of_the_message_itself(served: BothPorts) -> None:
    request = pb.ModelInferRequest(model_name="classify")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(png())
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer, state = call.with_call(request)
    assert answer.outputs[0].datatype
    assert len(answer.outputs) == len(answer.raw_output_contents)
    told = dict(state.initial_metadata())
    assert told["x-tier"] == answer.parameters["tier"].string_param
    assert "x-request-id" in told


def test_outputs_are_raw_whatever_is_asked(client: triton.InferenceServerClient) -> None:
    wanted = triton.InferRequestedOutput("indices")
    wanted._get_tensor().parameters["binary_data"].bool_param = False
    found = client.infer("classify", images(png()), outputs=[wanted]).as_numpy("indices")
    assert found.size > 0


@pytest.mark.parametrize(
    ("model", "body", "parameters", "code", "said"),
    [
        ("segment", png(), {}, "NOT_FOUND", "there is no model"),
        ("classify", b"", {}, "INVALID_ARGUMENT", "zero bytes"),
        ("classify", b"no image", {}, "INVALID_ARGUMENT", "not a JPEG"),
        ("classify", png(), {"tier": "turbo"}, "INVALID_ARGUMENT", "unknown-tier"),
        ("classify", png(), {"treshold": 0.5}, "INVALID_ARGUMENT", "did you mean threshold"),
        ("classify", png(), {"max_macs_ratio": 1e-6}, "INVALID_ARGUMENT", "budget-infeasible"),
        ("classify", png(), {"threshold": 2.0}, "INVALID_ARGUMENT", "threshold"),
    ],
)
def test_what_is_wrong_has_a_code(
    client: triton.InferenceServerClient,
    model: str,
    body: bytes,
    parameters: dict[str, Any],
    code: str,
    said: str,
) -> None:
    found = refused(lambda: client.infer(model, images(body), parameters=parameters))
    assert found[0] == f"StatusCode.{code}"
    assert said in found[1]


def test_the_call_s_deadline_is_the_request_s(client: triton.InferenceServerClient) -> None:
    started = time.monotonic()
    code, _ = refused(
        lambda: client.infer("classify", images(png()), parameters={"threshold": SLOW}, client_timeout=0.1)
    )
    assert code == "StatusCode.DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 0.35, "the job takes 0.4 s"


def test_the_protocol_s_own_timeout_counts_as_well(client: triton.InferenceServerClient) -> None:
    slow = {"threshold": SLOW}
    code, said = refused(lambda: client.infer("classify", images(png()), parameters=slow, timeout=50_000))
    assert code == "StatusCode.DEADLINE_EXCEEDED"
    assert "deadline" in said


@pytest.mark.parametrize(("timeout_us", "call_s"), [(50_000, 5.0), (5_000_000, 0.1)])
def test_of_two_deadlines_the_earlier_counts(
    client: triton.InferenceServerClient, timeout_us: int, call_s: float
) -> None:
    started = time.monotonic()
    code, _ = refused(
        lambda: client.infer(
            "classify",
            images(png()),
            parameters={"threshold": SLOW},
            timeout=timeout_us,
            client_timeout=call_s,
        )
    )
    assert code == "StatusCode.DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 0.35, "the job takes 0.4 s"


def test_a_call_that_is_cancelled_frees_its_place(served: BothPorts) -> None:
    pool = served.app.state.context.pool
    with triton.InferenceServerClient(served.grpc) as client:
        done = threading.Event()
        calls = [
            client.async_infer(
                "classify", images(png()), lambda **_: done.set(), parameters={"threshold": SLOW}
            )
            for _ in range(4)
        ]
        _until(lambda: pool.report().queue_depth >= 2)
        for call in calls:
            call.cancel()
        _until(lambda: pool.report().queue_depth == 0)
    text = httpx.get(f"{served.http}/metrics").text
    assert 'outcome="client-closed"' in text
    closed = next(
        line
        for line in text.splitlines()
        if line.startswith("pixeltier_requests_total") and "client-closed" in line and 'tier="custom"' in line
    )
    assert float(closed.rpartition(" ")[2]) >= 2


def test_keys_and_limits_hold_here_too(tmp_path: Path) -> None:
    token, stanza = access.new_key("alice")
    keys = tmp_path / "keys.toml"
    keys.write_text(f"anonymous = false\n{stanza}\n")
    with (
        serving_grpc(api_keys_file=keys, tiers_file=tiers_file(tmp_path)) as ports,
        triton.InferenceServerClient(ports.grpc) as client,
    ):
        assert refused(lambda: client.infer("classify", images(png())))[0] == "StatusCode.UNAUTHENTICATED"
        bearer = {"authorization": f"Bearer {token}"}
        assert client.infer("classify", images(png()), headers=bearer).as_numpy("indices") is not None
        assert client.is_server_live()


def test_a_message_above_the_limit_is_refused(tmp_path: Path) -> None:
    limits = {"max_body_bytes": 20_000, "max_images": 1}
    with (
        serving_grpc(tiers_file=tiers_file(tmp_path), **limits) as ports,
        triton.InferenceServerClient(ports.grpc) as client,
    ):
        big = np.random.default_rng(0).bytes(200_000)
        assert refused(lambda: client.infer("classify", images(big)))[0] == "StatusCode.RESOURCE_EXHAUSTED"
        assert client.infer("classify", images(encoded(photo(20, 20), "PNG"))).as_numpy("indices") is not None


def test_a_message_is_bounded_before_it_is_read_as_a_body_is(tmp_path: Path) -> None:
    """The limit is that of a body, all images together: more is not even held in memory, compressed or not."""
    limits = {"max_body_bytes": 300_000, "max_images": 16}
    with (
        serving_grpc(tiers_file=tiers_file(tmp_path), **limits) as ports,
        triton.InferenceServerClient(ports.grpc) as client,
    ):
        for compression in (None, "gzip"):
            code, said = refused(
                lambda how=compression: client.infer(
                    "classify", images(bytes(500_000)), compression_algorithm=how
                )
            )
            assert code == "StatusCode.RESOURCE_EXHAUSTED"
            assert "larger than max" in said
        code, said = refused(lambda: client.infer("classify", images(bytes(250_000))))
        assert code == "StatusCode.INVALID_ARGUMENT"
        assert "not a JPEG" in said


def test_a_drain_finishes_what_is_begun(tmp_path: Path) -> None:
    answers: list[Any] = []
    with serving_grpc(tiers_file=tiers_file(tmp_path)) as ports:
        client = triton.InferenceServerClient(ports.grpc)
        client.async_infer(
            "classify",
            images(png()),
            lambda result, error: answers.append(error or result),
            parameters={"threshold": SLOW},
        )
        time.sleep(0.15)
        ports.server.should_exit = True
        _until(lambda: bool(answers))
        assert not isinstance(answers[0], InferenceServerException), answers[0]
        assert refused(lambda: client.is_server_live(client_timeout=2))[0] in {
            "StatusCode.UNAVAILABLE",
            "StatusCode.DEADLINE_EXCEEDED",
        }
        client.close()


def test_a_drain_finishes_a_call_that_has_no_job_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    parse, parsing = tensors.parse, threading.Event()

    def slowly(*arguments: Any) -> Any:
        parsing.set()
        time.sleep(0.6)
        return parse(*arguments)

    monkeypatch.setattr(open_inference, "OFF_LOOP_BYTES", 0)
    monkeypatch.setattr(tensors, "parse", slowly)
    with (
        serving_grpc(tiers_file=tiers_file(tmp_path)) as ports,
        triton.InferenceServerClient(ports.grpc) as client,
    ):
        client.async_infer("classify", images(png()), lambda result, error: answers.append(error or result))
        assert parsing.wait(10)
        ports.server.should_exit = True
        _until(lambda: bool(answers))
    assert not isinstance(answers[0], InferenceServerException), answers[0]


def test_a_forced_end_waits_for_no_call(tmp_path: Path) -> None:
    answers: list[Any] = []
    with (
        serving_grpc(tiers_file=tiers_file(tmp_path), drain_timeout_s=4.0) as ports,
        triton.InferenceServerClient(ports.grpc) as client,
    ):
        pool = ports.app.state.context.pool
        client.async_infer(
            "classify",
            images(*[png()] * 12),
            lambda result, error: answers.append(error or result),
            parameters={"threshold": SLOW},
        )
        _until(lambda: pool.report().queue_depth > 0)
        started = time.monotonic()
        ports.server.should_exit = ports.server.force_exit = True
        _until(lambda: bool(answers))
        assert time.monotonic() - started < 2, "the jobs take 4.8 s"
    assert isinstance(answers[0], InferenceServerException)


@pytest.mark.parametrize("peer", ["unix:/run/x.sock", "unknown", "ipv6:%5B::1%5D:4711", "ipv4:10.0.0.7:5"])
def test_a_peer_is_an_address_and_never_believed_to_be_a_socket(peer: str) -> None:
    """Forwarded headers of a Unix socket's peer count: here everybody could send them."""

    class Context:
        def peer(self) -> str:
            return peer

        def time_remaining(self) -> float | None:
            return None

        def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
            return (
                ("x-tier", "fast"),
                ("user-agent", "grpc"),
                ("key-bin", "x"),
                ("grpc-accept-encoding", "gzip"),
            )

    found = servicer._caller(Context(), {})
    known = {"ipv6:%5B::1%5D:4711": ("::1", 4711), "ipv4:10.0.0.7:5": ("10.0.0.7", 5)}
    assert found.address == known.get(peer, servicer.NOWHERE)
    assert found.headers == [("x-tier", "fast")]


def test_it_is_off_unless_a_port_is_named() -> None:
    assert Settings().grpc_port is None


def test_without_grpc_the_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pixeltier.service.grpc_server.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(grpc_server, name.rpartition(".")[2], raising=False)
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "grpc" or name.startswith("grpc."):
            raise ImportError("No module named 'grpc'")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"grpc_port: gRPC is not installed .*pixeltier\[grpc\]"):
        check_installed(Settings(grpc_port=1))
    check_installed(Settings())


def test_a_port_that_is_taken_is_an_error(served: BothPorts) -> None:
    taken = int(served.grpc.rpartition(":")[2])
    code = (
        "import asyncio\n"
        "from pixeltier.service.configuration.settings import Settings\n"
        "from pixeltier.service.grpc_server.listening import open_port\n"
        f"asyncio.run(open_port(None, Settings(grpc_port={taken})))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "host, grpc_port: cannot listen" in found.stderr


def test_a_port_that_is_taken_ends_what_was_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        app = fake_app(port=0, grpc_port=taken, tiers_file=tiers_file(tmp_path))
        context = app.state.context
        server = Server(uvicorn_config(app, context.settings), context.pool, context.jobs, context.settings)
        with (
            mock.patch("pixeltier.service.server.serve.signals.install"),
            listening_sockets(context.settings) as sockets,
            pytest.raises(ConfigurationError, match="host, grpc_port: cannot listen"),
        ):
            server.run(sockets)
    assert {worker.state for worker in context.pool.report().workers} == {WorkerState.STOPPED}
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("inputs", "raw", "said"),
    [(1, 2, "raw_input_contents holds 2 tensors"), (1, 1, "has contents, and raw_input_contents")],
)
def test_tensors_that_contradict_are_refused(inputs: int, raw: int, said: str) -> None:
    request = pb.ModelInferRequest(model_name="classify", raw_input_contents=[b"x"] * raw)
    for _ in range(inputs):
        request.inputs.add(name="image").contents.bytes_contents.append(b"y")
    with pytest.raises(ValueError, match=said):
        request_of(request)


def test_the_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    """`make grpc` was run after the last change; and their numbers are those of Triton's client."""
    compiled = tmp_path / "compiled"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{FOLDER}",
            f"--descriptor_set_out={compiled}",
            "open_inference.proto",
        ],
        check=True,
    )
    assert compiled.read_bytes() == (FOLDER / "open_inference.binpb").read_bytes()
    theirs = triton.service_pb2.DESCRIPTOR.message_types_by_name
    for name in ("ModelInferRequest", "ModelInferResponse", "InferParameter", "ModelMetadataResponse"):
        ours = getattr(pb, name).DESCRIPTOR
        assert _fields(ours) == _fields(theirs[name])


def _fields(message: Any) -> dict[str, tuple[int, int]]:
    found = {field.name: (field.number, field.type) for field in message.fields}
    for inner in message.nested_types:
        found |= {f"{inner.name}.{name}": value for name, value in _fields(inner).items()}
    return found


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
