"""The RayService: deploy/ray/serve.yaml in pods that are large enough for it, and unprivileged."""

from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.charts import ROOT
from tests.deploy.manifests import Resource, kustomize, validate, validate_pod

FOLDER = ROOT / "deploy" / "ray"


@cache
def built() -> list[Resource]:
    return kustomize(FOLDER)


def service() -> Resource:
    (found,) = [resource for resource in built() if resource["kind"] == "RayService"]
    return found


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = service()["spec"]["rayClusterConfig"]
    return found


def pods() -> list[dict[str, Any]]:
    groups = [cluster()["headGroupSpec"], *cluster()["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_resources_and_the_pods_within_are_valid() -> None:
    assert [resource["kind"] for resource in built()] == ["Namespace", "RayService"]
    for resource in built():
        validate(resource)
    assert len(pods()) == 2
    for pod in pods():
        validate_pod(pod)
    wrong = service() | {"spec": service()["spec"] | {"serveConfig": {}}}
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong)


def test_the_application_is_that_of_serve_yaml() -> None:
    assert service()["spec"]["serveConfigV2"] == (FOLDER / "serve.yaml").read_text()


def test_the_application_and_its_arguments_are_known() -> None:
    serve_schema = pytest.importorskip("ray.serve.schema", reason="ray is missing: pip install '.[ray]'")
    from pixeltier.service.ray.application import Scale

    config = serve_schema.ServeDeploySchema.model_validate(yaml.safe_load(service()["spec"]["serveConfigV2"]))
    (application,) = config.applications
    assert Scale.model_validate(application.args).slots_most >= 1
    assert application.import_path == "pixeltier.service.ray.application:build"


def test_workers_have_room_for_all_slots_and_fronts() -> None:
    pytest.importorskip("ray.serve", reason="ray is missing: pip install '.[ray]'")
    from pixeltier.service.ray.application import Scale

    (application,) = yaml.safe_load(service()["spec"]["serveConfigV2"])["applications"]
    scale = Scale.model_validate(application["args"])
    fronts = scale.fronts * scale.front_cpus
    (group,) = cluster()["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    cpus = float(worker["resources"]["limits"]["cpu"])
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    assert group["minReplicas"] * cpus >= scale.slots_least * scale.threads + fronts
    assert group["maxReplicas"] * cpus >= scale.slots_most * scale.threads + fronts
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_ray_is_the_one_of_the_constraints() -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster()['rayVersion']}" in pinned
    (image,) = {container["image"] for pod in pods() for container in pod["containers"]}
    assert image.endswith("-ray")


def test_ports_of_proxies_are_those_of_serve_yaml() -> None:
    port = yaml.safe_load((FOLDER / "serve.yaml").read_text())["http_options"]["port"]
    for pod in pods():
        (container,) = pod["containers"]
        assert {"name": "serve", "containerPort": port} in container["ports"]
    (worker,) = pods()[1]["containers"]
    assert worker["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": port}


def test_pods_are_unprivileged() -> None:
    """The `restricted` level, which the namespace enforces; the operator's sidecar included."""
    for pod in pods():
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for context in (container["securityContext"], cluster()["autoscalerOptions"]["securityContext"]):
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
    assert pods()[1]["automountServiceAccountToken"] is False
