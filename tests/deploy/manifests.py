"""Manifests as kustomize makes them, and what Kubernetes says of a resource before it takes it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.deploy.custom_resources import BY_KIND

Resource = dict[str, Any]


def _kubectl() -> str:
    # The one beside this Python (of the `dev` extra) before any other, so that every machine uses the same.
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "kubectl is missing: pip install '.[dev]'"
    return found


def kustomize(folder: Path) -> list[Resource]:
    """The resources of a kustomization; fails with kustomize's own words."""
    made = subprocess.run(
        [_kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr, made.stderr
    return list(yaml.safe_load_all(made.stdout))


def validate(resource: Resource) -> None:
    """Refuses a resource that Kubernetes' schemas, or those of custom resources, do not know like this."""
    if resource["kind"] in BY_KIND:
        jsonschema.validate(resource, BY_KIND[resource["kind"]])
    else:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def validate_pod(spec: Resource) -> None:
    """The same for a pod's specification inside another resource."""
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "borrowed"}, "spec": spec})
