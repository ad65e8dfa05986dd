"""Every task's description."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pixeltier.service.task_specs.classify import ClassifySpec
from pixeltier.service.task_specs.spec import TaskSpec
from pixeltier.service.task_specs.super_resolve import SuperResolveSpec
from pixeltier.service.tasks import Task

AnyTaskSpec = TaskSpec[Any, Any]

SPECS: Mapping[Task, AnyTaskSpec] = MappingProxyType(
    {spec.task: spec for spec in (ClassifySpec(), SuperResolveSpec())}
)
"""In the order in which the service lists them."""
