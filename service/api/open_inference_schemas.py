"""The JSON bodies of /v2: the Open Inference Protocol's documents, and what each model takes and gives."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from pixeltier.service import __version__
from pixeltier.service.api.tensors import INPUT
from pixeltier.service.task_specs.registry import SPECS
from pixeltier.service.task_specs.spec import IMPORTANCE


class ErrorDocument(BaseModel):
    """The body of every error below /v2."""

    error: str = Field(examples=["unknown-tier: there is no tier 'turbo'; the tiers are exact, high, ..."])


class ServerDocument(BaseModel):
    """What this server is."""

    name: str = "pixeltier"
    version: str = __version__
    extensions: list[str] = [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "parameters",
        "schedule_policy",
        "statistics",
    ]


class TensorDocument(BaseModel):
    """What a tensor looks like."""

    name: str
    datatype: str
    shape: list[int]


class ModelDocument(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(protected_namespaces=())

    name: str = Field(examples=["classify"])
    versions: list[str] = Field(examples=[["2026.11.0"]])
    platform: str = "pixeltier"
    inputs: list[TensorDocument]
    outputs: list[TensorDocument]


class ModelListDocument(BaseModel):
    """The names of the models."""

    models: list[str] = Field(examples=[["classify", "super-resolve"]])


class TensorConfigDocument(BaseModel):
    """A tensor in the words of Triton's model configuration."""

    name: str
    data_type: str = Field(examples=["TYPE_STRING"])
    dims: list[int]


class ModelConfigDocument(BaseModel):
    """A model's configuration (model configuration extension), as far as it means something here."""

    model_config = ConfigDict(protected_namespaces=())

    name: str = Field(examples=["classify"])
    platform: str = "pixeltier"
    backend: str = ""
    version_policy: dict[str, dict[str, int]] = {"latest": {"num_versions": 1}}
    max_batch_size: int = Field(
        default=0, description="0: a request holds one image; jobs are batched inside."
    )
    input: list[TensorConfigDocument]
    output: list[TensorConfigDocument]
    parameters: dict[str, dict[str, str]] = Field(
        description="`max_pixels` and `max_batch` of the service.",
        examples=[{"max_batch": {"string_value": "4"}}],
    )


class DurationDocument(BaseModel):
    """How often, and how long in all."""

    count: int
    ns: int


class InferenceStatsDocument(BaseModel):
    """Requests and their stages; the dense network's cost and the tiers are in /metrics."""

    success: DurationDocument
    fail: DurationDocument
    queue: DurationDocument
    compute_input: DurationDocument = Field(description="Decoding.")
    compute_infer: DurationDocument = Field(description="Importance map and network.")
    compute_output: DurationDocument = Field(description="Encoding.")


class ModelStatsDocument(BaseModel):
    """One model's statistics since the process started."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since the epoch; 0: none yet.")
    inference_count: int
    execution_count: int = Field(description="Batches that ran, comparisons of the shadow included.")
    inference_stats: InferenceStatsDocument
    batch_stats: list[dict[str, Any]] = Field(
        default=[], description="Not kept; see pixeltier_batch_size in /metrics."
    )


class StatsDocument(BaseModel):
    """Statistics (statistics extension)."""

    model_config = ConfigDict(protected_namespaces=())

    model_stats: list[ModelStatsDocument]


class IndexRequest(BaseModel):
    """What the index is to hold."""

    model_config = ConfigDict(extra="forbid")

    ready: StrictBool = Field(default=False, description="Only models that are ready.")


class IndexEntry(BaseModel):
    """One model of the index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class InferDocument(BaseModel):
    """An answer without binary data."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = Field(description="Tier, threshold and MACs of the answer.")
    outputs: list[dict[str, Any]]


INPUTS = [TensorDocument(name=INPUT, datatype="BYTES", shape=[-1])]
OUTPUTS = {
    task: [
        TensorDocument(name=output.name, datatype=output.datatype, shape=list(output.shape))
        for output in (*spec.outputs, IMPORTANCE)
    ]
    for task, spec in SPECS.items()
}
CONFIG_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT32": "TYPE_INT32"}
