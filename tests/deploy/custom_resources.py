"""Schemas of the custom resources we write, as strict as their definitions are for the fields we use.

The definitions themselves (KEDA, Prometheus operator, KServe, KubeRay) are tens of thousands of lines; a field that is
not listed here is refused, so that a new one is looked up before it is used.
"""

from typing import Any

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(of: Schema, least: int = 1) -> Schema:
    return {"type": "array", "items": of, "minItems": least}


TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
NAME: Schema = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = _object(("name",), name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS)
ANYTHING: Schema = {"type": "object"}


def _resource(version: str, kind: str, spec: Schema) -> Schema:
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
    )


SCALED_OBJECT = _resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    _object(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_object(("name",), apiVersion=TEXT, kind=TEXT, name=NAME),
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        fallback=_object(
            ("failureThreshold", "replicas"),
            failureThreshold=COUNT,
            replicas=COUNT,
            behavior={
                "enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]
            },
        ),
        # Its behaviour is a HorizontalPodAutoscaler's and validated as one.
        advanced=_object((), horizontalPodAutoscalerConfig=_object((), behavior=ANYTHING)),
        triggers=_list(
            _object(
                ("type", "metadata"),
                type={"const": "prometheus"},
                metricType={"enum": ["AverageValue", "Value"]},
                metadata=_object(
                    ("serverAddress", "query", "threshold"),
                    serverAddress={"type": "string", "pattern": "^https?://"},
                    query=TEXT,
                    threshold=TEXT,
                    activationThreshold=TEXT,
                ),
            )
        ),
    ),
)

SERVICE_MONITOR = _resource(
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    _object(
        ("selector", "endpoints"),
        selector=_object((), matchLabels=TEXTS),
        jobLabel=TEXT,
        sampleLimit=COUNT,
        endpoints=_list(_object((), port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION)),
    ),
)

SERVING_RUNTIME = _resource(
    "serving.kserve.io/v1alpha1",
    "ServingRuntime",
    _object(
        ("containers",),
        supportedModelFormats=_list(_object(("name",), name=TEXT, version=TEXT, autoSelect=BOOLEAN)),
        protocolVersions=_list({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
        multiModel=BOOLEAN,
        containers=_list(ANYTHING),  # a pod's, validated as such
    ),
)

INFERENCE_SERVICE = _resource(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    _object(
        ("predictor",),
        predictor=_object(
            ("model",),
            enableServiceLinks=BOOLEAN,  # of a pod's fields, which stand here too
            minReplicas=COUNT,
            maxReplicas=COUNT,
            scaleMetric={"enum": ["cpu", "memory", "concurrency", "rps"]},
            scaleTarget=COUNT,
            timeout=COUNT,
            model=_object(
                ("modelFormat",),
                modelFormat=_object(("name",), name=TEXT, version=TEXT),
                protocolVersion={"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
                runtime=NAME,
            ),
        ),
    ),
)

_RULE = _object(
    ("expr",),
    record={"type": "string", "pattern": "^[a-zA-Z_:][a-zA-Z0-9_:]*$"},
    alert=TEXT,
    expr=TEXT,
    **{"for": DURATION, "keep_firing_for": DURATION},
    labels=TEXTS,
    annotations=TEXTS,
)
_RULE["oneOf"] = [{"required": ["record"]}, {"required": ["alert"]}]

PROMETHEUS_RULE = _resource(
    "monitoring.coreos.com/v1",
    "PrometheusRule",
    _object(
        ("groups",),
        groups=_list(_object(("name", "rules"), name=TEXT, interval=DURATION, rules=_list(_RULE))),
    ),
)

_RAY_PARAMETERS = TEXTS  # strings, as the definition wants them: "0", not 0
_POD_TEMPLATE = _object(("spec",), metadata=ANYTHING, spec=ANYTHING)  # a pod's, validated as such

RAY_SERVICE = _resource(
    "ray.io/v1",
    "RayService",
    _object(
        ("serveConfigV2", "rayClusterConfig"),
        serveConfigV2=TEXT,
        rayClusterConfig=_object(
            ("headGroupSpec",),
            rayVersion={"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
            enableInTreeAutoscaling=BOOLEAN,
            autoscalerOptions=_object((), securityContext=ANYTHING, env=_list(ANYTHING), resources=ANYTHING),
            headGroupSpec=_object(
                ("rayStartParams", "template"), rayStartParams=_RAY_PARAMETERS, template=_POD_TEMPLATE
            ),
            workerGroupSpecs=_list(
                _object(
                    ("groupName", "rayStartParams", "template"),
                    groupName=NAME,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=_RAY_PARAMETERS,
                    template=_POD_TEMPLATE,
                )
            ),
        ),
    ),
)

BY_KIND = {
    "PrometheusRule": PROMETHEUS_RULE,
    "RayService": RAY_SERVICE,
    "ScaledObject": SCALED_OBJECT,
    "ServiceMonitor": SERVICE_MONITOR,
    "ServingRuntime": SERVING_RUNTIME,
    "InferenceService": INFERENCE_SERVICE,
}
