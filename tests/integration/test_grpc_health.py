"""gRPC's own health protocol, and the bound on calls at once."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.server import BothPorts, serving_grpc
from tests.tier_table import tiers_file


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothPorts]:
    with serving_grpc(tiers_file=tiers_file(tmp_path_factory.mktemp("tiers"))) as ports:
        yield ports


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "classify", "super-resolve"])
def test_grpc_s_own_health_protocol(served: BothPorts, service: str) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_all(served: BothPorts) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        found = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10).statuses
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(
        ("", "inference.GRPCInferenceService", "classify", "super-resolve"),
        health_pb2.HealthCheckResponse.SERVING,
    )


def test_the_health_of_what_is_not_there(served: BothPorts) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="turbo"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        first = next(stub.Watch(health_pb2.HealthCheckRequest(service="turbo"), timeout=10))
    assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_who_watches_the_health_hears_of_a_drain_and_holds_up_nothing(tmp_path: Path) -> None:
    with serving_grpc(tiers_file=tiers_file(tmp_path)) as ports, grpc.insecure_channel(ports.grpc) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        ports.app.state.context.pool.begin_drain()
        assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
        ports.server.should_exit = True
        began = time.monotonic()
        assert list(states) == []
        assert time.monotonic() - began < 5


def test_calls_at_once_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixeltier.service.grpc_server.listening.CALLS_BESIDE", 1)
    with (
        serving_grpc(tiers_file=tiers_file(tmp_path), queue_limit=1) as ports,
        grpc.insecure_channel(ports.grpc) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watched = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(2)]
        assert all(next(one).status == health_pb2.HealthCheckResponse.SERVING for one in watched)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
