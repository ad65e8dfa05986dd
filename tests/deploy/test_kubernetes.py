"""What kustomize makes of deploy/kubernetes: valid against the schemas, and agreeing with the service it runs."""

from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pixeltier.service import __version__
from pixeltier.service.configuration import settings
from pixeltier.service.configuration.settings import OTHER_VARIABLES, PREFIX, Settings
from pixeltier.service.telemetry.metrics import Metrics
from pixeltier.service.tiers import schema
from tests.deploy.manifests import Resource, kustomize, validate
from tests.integration.fakes import fake_app

ROOT = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("overlays/cpu", "overlays/cpu-keda", "overlays/gpu")
EVERY = (*OVERLAYS, "kserve")


@cache
def build(overlay: str) -> list[Resource]:
    return kustomize(ROOT / overlay)


def one(overlay: str, kind: str) -> Resource:
    (found,) = [resource for resource in build(overlay) if resource["kind"] == kind]
    return found


def pod(overlay: str) -> Resource:
    spec: Resource = one(overlay, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(overlay: str) -> Resource:
    owner = one(overlay, "ServingRuntime")["spec"] if overlay == "kserve" else pod(overlay)
    (only,) = owner["containers"]
    found: Resource = only
    return found


@pytest.mark.parametrize("overlay", EVERY)
def test_every_resource_is_valid(overlay: str) -> None:
    for resource in build(overlay):
        validate(resource)
        assert resource.get("metadata", {}).get("namespace", "pixeltier") == "pixeltier"


def test_the_schemas_refuse_mistakes() -> None:
    for kind, (overlay, path, value) in {
        "Deployment": ("overlays/cpu", ("spec", "template", "spec", "containers", 0, "port"), 1),
        "ScaledObject": ("overlays/cpu-keda", ("spec", "triggers", 0, "metadata", "treshold"), "1"),
        "ServiceMonitor": ("overlays/cpu-keda", ("spec", "endpoints", 0, "interval"), 15),
        "InferenceService": ("kserve", ("spec", "predictor", "model", "protocolVersion"), "v3"),
    }.items():
        wrong = yaml.safe_load(yaml.safe_dump(one(overlay, kind)))
        at = wrong
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
            validate(wrong)


def test_parts_that_custom_resources_borrow_are_valid_too() -> None:
    scaled = one("overlays/cpu-keda", "ScaledObject")["spec"]
    borrowed = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "borrowed"},
        "spec": {
            "scaleTargetRef": scaled["scaleTargetRef"],
            "maxReplicas": scaled["maxReplicaCount"],
            "behavior": scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }
    validate(borrowed)
    runtime = one("kserve", "ServingRuntime")["spec"]["containers"]
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": runtime}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pods(overlay: str) -> None:
    labels = one(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        one(overlay, "Deployment")["spec"]["selector"]["matchLabels"],
        one(overlay, "Service")["spec"]["selector"],
        one(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels
    ports = {port["name"] for port in container(overlay)["ports"]}
    assert {port["targetPort"] for port in one(overlay, "Service")["spec"]["ports"]} <= ports


@pytest.mark.parametrize("overlay", EVERY)
def test_pods_are_unprivileged(overlay: str) -> None:
    """The `restricted` level of the pod security standards, and a read-only root besides."""
    only = container(overlay)
    security = only["securityContext"] | ({} if overlay == "kserve" else pod(overlay)["securityContext"])
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    if overlay != "kserve":
        assert pod(overlay)["automountServiceAccountToken"] is False
        assert one(overlay, "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert not one(overlay, "NetworkPolicy")["spec"].get("egress")


@pytest.mark.parametrize("overlay", EVERY)
def test_environment_and_probes_are_the_services_own(overlay: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    assert {entry["name"] for entry in container(overlay)["env"]} <= known
    routes = fake_app().openapi()["paths"]
    ports = {port["name"]: port["containerPort"] for port in container(overlay)["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in container(overlay):
            asked = container(overlay)[probe]["httpGet"]
            assert asked["path"] in routes
            assert asked["port"] in {*ports, *ports.values()}
    if overlay == "kserve":
        port = next(
            entry["value"] for entry in container(overlay)["env"] if entry["name"] == "PIXELTIER_PORT"
        )
        assert int(port) in ports.values()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_lives_long_enough_to_drain(overlay: str) -> None:
    defaults = Settings()
    hook = float(container(overlay)["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = defaults.drain_delay_s + defaults.drain_timeout_s
    assert pod(overlay)["terminationGracePeriodSeconds"] >= hook + drain + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_autoscaler_on_the_wait_in_the_queue(overlay: str) -> None:
    scalers = [one_ for one_ in build(overlay) if one_["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}]
    (scaler,) = scalers
    assert scaler["spec"]["scaleTargetRef"]["name"] == one(overlay, "Deployment")["metadata"]["name"]
    assert "replicas" not in one(overlay, "Deployment")["spec"]
    metric = "pixeltier_queue_wait_estimate_seconds"
    assert metric in str(scaler["spec"])
    assert metric in exposed()


@cache
def exposed() -> str:
    metrics: Metrics = fake_app().state.context.metrics
    return metrics.expose("")[0].decode()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_tier_table_is_the_packaged_one(overlay: str) -> None:
    document = one(overlay, "ConfigMap")
    mounted = [volume for volume in pod(overlay)["volumes"] if volume.get("configMap")]
    assert [volume["configMap"]["name"] for volume in mounted] == [document["metadata"]["name"]]
    assert not any("subPath" in mount for mount in container(overlay)["volumeMounts"])
    table = schema.parse(document["data"]["tiers.toml"], source="the ConfigMap")
    assert table == schema.load(), "copy service/tiers/default.toml to deploy/kubernetes/base/tiers.toml"


@pytest.mark.parametrize("overlay", EVERY)
def test_images_are_named_by_a_version(overlay: str) -> None:
    """Nodes keep an image they have (IfNotPresent): only a tag that never moves is the same on all of them."""
    repository, _, tag = container(overlay)["image"].partition(":")
    assert repository == "pixeltier"
    assert tag == (f"{__version__}-cuda" if overlay == "overlays/gpu" else __version__)
    assert container(overlay).get("imagePullPolicy", "IfNotPresent") == "IfNotPresent"


@pytest.mark.parametrize("overlay", EVERY)
def test_everything_lies_in_a_namespace_that_is_made_too(overlay: str) -> None:
    space = one(overlay, "Namespace")["metadata"]
    assert space["name"] == "pixeltier"
    assert space["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for resource in build(overlay):
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == "pixeltier", resource["kind"]


@pytest.mark.parametrize("overlay", EVERY)
def test_variables_of_services_stay_outside_and_would_not_stop_the_start(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = one(overlay, "InferenceService")["spec"]["predictor"] if overlay == "kserve" else pod(overlay)
    assert owner["enableServiceLinks"] is False
    names = ["PIXELTIER", "PIXELTIER_PREDICTOR", "PIXELTIER_PREDICTOR_DEFAULT"]
    for name in names:  # a cluster's default may turn them on again
        monkeypatch.setenv(f"{name}_SERVICE_HOST", "10.96.0.7")
        monkeypatch.setenv(f"{name}_SERVICE_PORT", "80")
        monkeypatch.setenv(f"{name}_PORT", "tcp://10.96.0.7:80")
        monkeypatch.setenv(f"{name}_PORT_80_TCP_ADDR", "10.96.0.7")
    own = {entry["name"]: entry["value"] for entry in container(overlay)["env"]}
    for name in {"PIXELTIER_PORT", "PIXELTIER_DEVICE"} & own.keys():
        monkeypatch.setenv(name, own[name])
    assert settings.load().port == container(overlay)["ports"][0]["containerPort"]


def test_a_full_pool_of_accelerators_can_be_rolled_out() -> None:
    """No pod may be surplus where every accelerator is taken, and one must be allowed to go."""
    strategy = one("overlays/gpu", "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    for overlay in ("overlays/cpu", "overlays/cpu-keda"):
        rolling = one(overlay, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_accelerator_is_asked_for_only_where_there_is_one() -> None:
    assert container("overlays/gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "PIXELTIER_DEVICE", "value": "cuda"} in container("overlays/gpu")["env"]
    assert "nvidia.com/gpu" not in str(build("overlays/cpu"))


def test_kserve_speaks_the_open_inference_protocol() -> None:
    runtime, service = one("kserve", "ServingRuntime"), one("kserve", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"] == ["v2"]
    assert model["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
