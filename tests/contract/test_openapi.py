"""The OpenAPI document as a property test: no response that it does not document."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from tests.images import encoded, photo
from tests.integration.server import serving

IMAGES = [encoded(photo(12, 9), format_) for format_ in ("PNG", "JPEG", "WEBP")]


TOKEN = "a-token-of-the-contract-test"

ADMIN = [
    "GET /admin/v1/tiers",
    "PUT /admin/v1/tiers",
    "PATCH /admin/v1/tiers",
    "POST /admin/v1/tiers:dry-run",
    "POST /admin/v1/tiers:rollback",
    "GET /admin/v1/versions",
    "GET /admin/v1/versions/{version}",
    "GET /admin/v1/audit",
    "GET /admin/v1/live",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("admin") / "tokens"
    tokens.write_text(TOKEN)
    with serving(admin_token_file=tokens) as url:
        yield url


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


CHECKS = (
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)


BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def _operations(api: Any) -> dict[str, Any]:
    """Operations by their label; asked for here because the library's pytest plugin lags behind pytest."""
    return {result.ok().label: result.ok() for result in api.get_all_operations()}


@pytest.mark.parametrize(
    "label",
    [
        "POST /v1/classify",
        "POST /v1/super-resolve",
        "GET /v1/tiers",
        "GET /v1/tiers/schema",
        "GET /v1/models",
        "GET /v1/jobs/{job_id}",
        "GET /v1/jobs/{job_id}/events",
        "GET /v1/jobs/{job_id}/result",
        "DELETE /v1/jobs/{job_id}",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/{model}",
        "GET /v2/models/{model}/ready",
        "POST /v2/models/{model}/infer",
        "GET /v2/models",
        "GET /v2/models/stats",
        "GET /v2/models/{model}/config",
        "GET /v2/models/{model}/stats",
        "GET /v2/models/{model}/versions/{version}",
        "GET /v2/models/{model}/versions/{version}/ready",
        "GET /v2/models/{model}/versions/{version}/config",
        "GET /v2/models/{model}/versions/{version}/stats",
        "POST /v2/models/{model}/versions/{version}/infer",
        "POST /v2/repository/index",
        *ADMIN,
    ],
)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_nothing_undocumented(api: Any, label: str, mode: GenerationMode) -> None:
    try:
        strategy = _operations(api)[label].as_strategy(generation_mode=mode)
    except Unsatisfiable:
        pytest.skip("nothing to negate")

    @BOUNDED
    @given(case=strategy)
    def check(case: Any) -> None:
        assert case.call_and_validate(checks=CHECKS).status_code != 500

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "an operation without parameters has no negative case"


def test_every_operation_is_in_the_table_above(api: Any) -> None:
    table = test_nothing_undocumented.pytestmark[-1].args[1]  # type: ignore[attr-defined]
    assert set(_operations(api)) == set(table)


@pytest.mark.parametrize("label", ADMIN)
def test_nothing_undocumented_for_operators(api: Any, label: str) -> None:
    """With the token, and a precondition that holds, changes get as far as their documents let them."""
    headers = {"Authorization": f"Bearer {TOKEN}", "If-Match": "*"}

    @BOUNDED
    @given(case=_operations(api)[label].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS, headers=headers)
        assert answer.status_code not in {401, 428, 500}

    check()


@pytest.mark.parametrize("label", ["POST /v1/classify", "POST /v1/super-resolve"])
def test_nothing_undocumented_with_a_real_image(api: Any, label: str) -> None:
    """Random bytes seldom are an image: here the parameters vary around one that is."""

    @BOUNDED
    @given(case=_operations(api)[label].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        case.body = IMAGES[len(str(case.query)) % len(IMAGES)]
        case.media_type = "image/png"
        assert case.call_and_validate(checks=CHECKS).status_code != 500

    check()


def test_every_operation_documents_its_problems_with_examples(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    for path in ("/v1/classify", "/v1/super-resolve"):
        responses = document["paths"][path]["post"]["responses"]
        assert set(responses) >= {"200", "406", "413", "415", "422", "500", "503", "504"}
        for status, response in responses.items():
            if not status.startswith("2"):
                examples = response["content"]["application/problem+json"]["examples"]
                assert examples
                assert all(one["value"]["status"] == int(status) for one in examples.values())
    assert document["components"]["schemas"]["Problem"]["properties"]["type"]
