"""What Helm makes of the chart: the kustomizations with values on top, valid, and wrong values refused by name."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.helm.settings import CHARTS_OWN
from pixeltier.service import __version__
from pixeltier.service.configuration.settings import PREFIX
from pixeltier.service.tiers import schema as table_schema
from tests.deploy.charts import (
    CHART,
    ROOT,
    RefusedError,
    example,
    lint,
    needs_helm,
    notes_and_resources,
    package,
    template,
)
from tests.deploy.manifests import Resource, kustomize, validate

pytestmark = needs_helm

EXAMPLES = ("cpu-keda", "gpu", "everything")
MINIMAL: dict[str, Any] = {
    "autoscaling": {"kind": "none"},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}
VALUES = {"default": {}, "minimal": MINIMAL} | {name: example(name) for name in EXAMPLES}
OVERLAYS: dict[str, dict[str, Any]] = {"cpu": {}, "cpu-keda": example("cpu-keda"), "gpu": example("gpu")}


@cache
def rendered(which: str) -> list[Resource]:
    return template(VALUES[which])


def only(resources: list[Resource], kind: str) -> Resource:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def container(resources: list[Resource]) -> Resource:
    (found,) = only(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(resources: list[Resource]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(resources)["env"]}


@pytest.mark.parametrize("which", VALUES)
def test_every_resource_is_valid_and_lies_in_the_release(which: str) -> None:
    resources = rendered(which)
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    assert len(names) == len(set(names))
    for resource in resources:
        validate(resource)
        assert resource["metadata"]["namespace"] == "images"
        assert resource["metadata"]["name"].startswith("demo-pixeltier")
        assert resource["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize("which", VALUES)
def test_lint_has_nothing_to_say(which: str) -> None:
    assert lint(VALUES[which]) == []


OF_THE_RELEASE = {"app.kubernetes.io/instance", "app.kubernetes.io/part-of"}


def _bare(resource: Resource) -> Resource:
    """Without the resource's own labels, those that either puts into selectors, and the order of named lists."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(one) for key, one in value.items() if key not in OF_THE_RELEASE}
        if isinstance(value, list):
            each = [stripped(one) for one in value]
            named = all(isinstance(one, dict) and "name" in one for one in each)
            return sorted(each, key=lambda one: str(one["name"])) if named else each
        return value

    bare: Resource = stripped(resource)
    del bare["metadata"]["labels"]
    return bare


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chart_is_the_overlay(overlay: str) -> None:
    """The same resources, field by field: one source, so that a change arrives in both."""
    applied = kustomize(ROOT / "deploy" / "kubernetes" / "overlays" / overlay)
    labelled = [one | {"metadata": {"labels": {}} | one["metadata"]} for one in applied]
    expected = {one["kind"]: _bare(one) for one in labelled if one["kind"] != "Namespace"}
    made = template(OVERLAYS[overlay], name="pixeltier", namespace="pixeltier")
    assert {one["kind"]: _bare(one) for one in made} == expected
    assert len(made) == len(expected)


def test_a_copy_without_the_linked_files_says_what_it_misses(tmp_path: Path) -> None:
    copy = tmp_path / "pixeltier"
    shutil.copytree(CHART, copy, symlinks=True, ignore=shutil.ignore_patterns("files"))
    with pytest.raises(
        RefusedError, match=r"files/base/\S+ is missing: files/ has symbolic links into deploy/"
    ):
        notes_and_resources({}, chart=copy)


def test_an_archive_of_the_chart_needs_nothing_else(tmp_path: Path) -> None:
    assert notes_and_resources(example("everything"), chart=package(tmp_path))[1] == rendered("everything")


def test_images_are_of_the_packages_version() -> None:
    assert container(rendered("default"))["image"] == f"pixeltier:{__version__}"
    assert container(rendered("gpu"))["image"] == f"pixeltier:{__version__}-cuda"


def test_settings_arrive_as_they_were_written() -> None:
    values = {
        "PIXELTIER_MAX_BODY_BYTES": 33554432,  # not 3.3554432e+07
        "PIXELTIER_SR_MAX_OUTPUT_PIXELS": 640000000,
        "PIXELTIER_HANG_GRACE_S": 2.5,
        "PIXELTIER_PRECISION": "bf16",
        "PIXELTIER_CORS_ORIGINS": '["https://a.example"]',
    }
    found = environment(template({"settings": values}))
    assert {name: found[name] for name in values} == {name: str(value) for name, value in values.items()}


def test_selectors_find_the_pods_of_this_release_alone() -> None:
    for resources in (rendered("default"), rendered("everything")):
        pod = only(resources, "Deployment")["spec"]["template"]
        labels = pod["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo"
        (spread,) = pod["spec"]["topologySpreadConstraints"]
        selectors = [
            only(resources, "Deployment")["spec"]["selector"]["matchLabels"],
            only(resources, "Service")["spec"]["selector"],
            only(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            only(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            spread["labelSelector"]["matchLabels"],
        ]
        for selector in selectors:
            assert selector["app.kubernetes.io/instance"] == "demo"
            assert selector.items() <= labels.items()
    service = only(rendered("everything"), "Service")["metadata"]["labels"]
    monitor = only(rendered("everything"), "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service.items()
    assert service[monitor["jobLabel"]] == "pixeltier"  # the job that rules and dashboards ask for


def test_names_within_the_release_agree() -> None:
    resources = rendered("everything")
    pod = only(resources, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    maps = {one["metadata"]["name"] for one in resources if one["kind"] == "ConfigMap"}
    assert volumes["tiers"]["configMap"]["name"] in maps
    claim = only(resources, "PersistentVolumeClaim")
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes["access"]["secret"] == {"secretName": "pixeltier-access", "defaultMode": 0o440}
    assert pod["serviceAccountName"] == only(resources, "ServiceAccount")["metadata"]["name"]
    target = only(resources, "ScaledObject")["spec"]["scaleTargetRef"]["name"]
    assert target == only(resources, "Deployment")["metadata"]["name"]
    service = only(resources, "Service")
    for path in only(resources, "Ingress")["spec"]["rules"][0]["http"]["paths"]:
        assert path["backend"]["service"]["name"] == service["metadata"]["name"]
        assert path["backend"]["service"]["port"]["name"] in {
            port["name"] for port in service["spec"]["ports"]
        }


def test_a_claim_that_exists_is_mounted_and_not_made() -> None:
    resources = template({"sharedState": {"enabled": True, "existingClaim": "mine"}})
    assert "PersistentVolumeClaim" not in {one["kind"] for one in resources}
    volumes = only(resources, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "state", "persistentVolumeClaim": {"claimName": "mine"}} in volumes


def test_values_reach_the_volume_and_keda() -> None:
    claim = only(rendered("everything"), "PersistentVolumeClaim")["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("nfs", "1Gi")
    scaled = only(rendered("everything"), "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 8)
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert 'namespace="images"' in trigger["metadata"]["query"]


def test_the_tier_table_is_the_packaged_one_or_yours() -> None:
    text = only(rendered("default"), "ConfigMap")["data"]["tiers.toml"]
    assert table_schema.parse(text, source="the ConfigMap") == table_schema.load()
    mine = (
        'default = "one"\n\n[[tiers]]\nname = "one"\nthresholds = { classify = 0.5, super-resolve = 0.5 }\n'
    )
    made = only(template({"tiers": {"table": mine}}), "ConfigMap")["data"]["tiers.toml"]
    assert made.strip() == mine.strip()


def test_rules_and_dashboards_are_those_of_the_repository() -> None:
    resources = rendered("everything")
    groups = only(resources, "PrometheusRule")["spec"]["groups"]
    source = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((ROOT / f"deploy/prometheus/rules/{name}.yml").read_text())["groups"]
    ]
    alerts = 0
    for group in source:
        for rule in group["rules"]:
            if "alert" in rule:
                alerts += 1
                rule["annotations"]["runbook_url"] = (
                    f"https://docs.example.com/monitoring/#{rule['alert'].lower()}"
                )
    assert alerts
    assert groups == source
    assert only(resources, "PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"

    files = list((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    maps = [one for one in resources if one["metadata"]["labels"].get("grafana_dashboard") == "1"]
    shown = {name: json.loads(text) for one in maps for name, text in one["data"].items()}
    assert shown == {file.name: json.loads(file.read_text()) for file in files}
    assert all(one["metadata"]["annotations"]["grafana_folder"] == "Pixeltier" for one in maps)


def test_alerts_keep_their_own_runbooks_unless_told() -> None:
    rules = only(template({"prometheusRule": {"enabled": True}}), "PrometheusRule")["spec"]["groups"]
    links = [
        rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"] if "alert" in rule
    ]
    assert links
    assert all(link.startswith("{{ $externalURL }}/user/runbooks.html#") for link in links)


def test_accelerators_by_count_and_kind() -> None:
    assert container(rendered("everything"))["resources"] == {
        "requests": {"cpu": 8, "memory": "12Gi"},
        "limits": {"cpu": 8, "memory": "16Gi", "nvidia.com/gpu": "2"},
    }
    slice_ = container(template({"gpu": {"enabled": True, "resource": "nvidia.com/mig-1g.10gb"}}))[
        "resources"
    ]
    assert slice_["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/mig-1g.10gb": "1"}
    tolerations = only(rendered("everything"), "Deployment")["spec"]["template"]["spec"]["tolerations"]
    assert {one["key"] for one in tolerations} == {"nvidia.com/gpu", "images"}


def test_a_path_prefix_is_told_to_the_service() -> None:
    assert environment(rendered("everything"))["PIXELTIER_ROOT_PATH"] == "/pixeltier"
    (rule,) = only(rendered("everything"), "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/pixeltier/v1", "/pixeltier/v2"]
    whole = template({"ingress": {"enabled": True, "prefix": "/p"}})
    validate(only(whole, "Ingress"))
    (rule,) = only(whole, "Ingress")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/p"]
    assert "host" not in rule
    own = {"ingress": {"enabled": True, "prefix": "/p"}, "settings": {"PIXELTIER_ROOT_PATH": "/outer/p"}}
    assert [one["value"] for one in container(template(own))["env"] if one["name"].endswith("ROOT_PATH")] == [
        "/outer/p"
    ]


def test_a_port_for_grpc_is_opened_everywhere() -> None:
    release = template({"settings": {"PIXELTIER_GRPC_PORT": 8001}, "networkPolicy": {"enabled": True}})
    for resource in release:
        validate(resource)
    assert {"name": "grpc", "containerPort": 8001, "protocol": "TCP"} in container(release)["ports"]
    ports = only(release, "Service")["spec"]["ports"]
    assert [(one["name"], one["port"]) for one in ports] == [("http", 80), ("grpc", 8001)]
    (inward,) = only(release, "NetworkPolicy")["spec"]["ingress"]
    assert [one["port"] for one in inward["ports"]] == ["http", "grpc"]
    without = template({"networkPolicy": {"enabled": True}})
    assert [one["name"] for one in container(without)["ports"]] == ["http"]
    assert len(only(without, "Service")["spec"]["ports"]) == 1


def test_a_longer_drain_is_waited_for() -> None:
    def waits(**settings: float) -> tuple[int, float]:
        pod = only(template({"settings": settings}), "Deployment")["spec"]["template"]["spec"]
        before = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        return pod["terminationGracePeriodSeconds"], before

    grace, before = waits(PIXELTIER_DRAIN_TIMEOUT_S=300.5, PIXELTIER_DRAIN_DELAY_S=10)
    assert isinstance(grace, int)
    assert grace >= before + 10 + 300.5 + 5
    assert waits()[0] == 40


def test_replicas_belong_to_the_autoscaler_or_to_the_values() -> None:
    assert "replicas" not in only(rendered("default"), "Deployment")["spec"]
    assert only(template(MINIMAL | {"replicas": 0}), "Deployment")["spec"]["replicas"] == 0
    kinds = {one["kind"] for one in rendered("minimal")}
    assert kinds == {"Deployment", "Service", "ServiceAccount", "ConfigMap"}


@pytest.mark.parametrize("name", ["pixeltier", "a" * 53, "my-pixeltier-staging"])
def test_names_stay_within_kubernetes_limits(name: str) -> None:
    for resource in template(example("everything"), name=name):
        assert len(resource["metadata"]["name"]) <= (253 if resource["kind"] == "ConfigMap" else 63)
        validate(resource)
    assert {one["metadata"]["name"] for one in template({"fullnameOverride": "mine"})} == {
        "mine",
        "mine-tiers",
    }


def test_what_is_easily_forgotten_is_said() -> None:
    quiet, _ = notes_and_resources({})
    assert "network policy" not in quiet
    said, _ = notes_and_resources({"ingress": {"enabled": True}, "access": {"secret": "mine"}})
    assert "network policy lets in" in said
    assert "sharedState.enabled" in said
    assert "network policy" not in notes_and_resources(example("everything"))[0]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replcas": 2}, "replcas"),
        ({"settings": {"PIXELTIER_SLOST": 2}}, "PIXELTIER_SLOST"),
        ({"settings": {"PIXELTIER_SLOTS": [2]}}, "/settings/PIXELTIER_SLOTS"),
        *[({"settings": {PREFIX + own.upper(): "x"}}, PREFIX + own.upper()) for own in sorted(CHARTS_OWN)],
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"image": {"repository": "pixeltier:0.1.0"}}, "/image/repository"),
        ({"gpu": {"count": 0}}, "/gpu/count"),
        ({"gpu": {"enabled": "yes"}}, "/gpu/enabled"),
        ({"autoscaling": {"kind": "vpa"}}, "/autoscaling/kind"),
        ({"autoscaling": {"maxReplicas": 0}}, "/autoscaling/maxReplicas"),
        ({"autoscaling": {"minReplicas": 30}}, "autoscaling.minReplicas (30) is above"),
        (
            {"gpu": {"enabled": True}, "autoscaling": {"minReplicas": 5}},
            "autoscaling.minReplicas (5) is above",
        ),
        ({"autoscaling": {"minReplicas": 0}}, "autoscaling.minReplicas is 0"),
        ({"resources": {"limits": {"cpu": "two"}}}, "/resources/limits/cpu"),
        ({"service": {"port": 70000}}, "/service/port"),
        ({"ingress": {"prefix": "/pixeltier/"}}, "/ingress/prefix"),
        ({"ingress": {"paths": []}}, "/ingress/paths"),
        ({"ingress": {"enabled": True, "tlsSecret": "x"}}, "ingress.tlsSecret wants ingress.host"),
        ({"prometheusRule": {"runbooks": "docs.example.com"}}, "/prometheusRule/runbooks"),
        ({"sharedState": {"size": "1 GB"}}, "/sharedState/size"),
        ({"fullnameOverride": "Mine"}, "/fullnameOverride"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedError) as refused:
        template(values)
    assert named in str(refused.value)


def test_custom_resources_of_the_chart_are_held_to_their_definitions() -> None:
    rule = json.loads(json.dumps(only(rendered("everything"), "PrometheusRule")))
    rule["spec"]["groups"][0]["rules"][0]["severity"] = "page"
    with pytest.raises(jsonschema.ValidationError):
        validate(rule)
