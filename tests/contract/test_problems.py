"""The table of problems is a contract with clients: types and statuses do not move."""

from pixeltier.service.problems import Problem

CONTRACT = {
    "validation": 422,
    "unknown-tier": 422,
    "budget-infeasible": 422,
    "undecodable-image": 422,
    "unsupported-media-type": 415,
    "not-acceptable": 406,
    "payload-too-large": 413,
    "image-too-large": 413,
    "output-too-large": 413,
    "config-not-stored": 507,
    "unauthorized": 401,
    "forbidden": 403,
    "overloaded": 503,
    "not-ready": 503,
    "rate-limited": 429,
    "job-lost": 410,
    "job-unfinished": 409,
    "result-not-stored": 507,
    "deadline-exceeded": 504,
    "client-closed": 499,
    "worker-crashed": 500,
}


def test_types_and_statuses() -> None:
    found = {problem.kind.type: problem.kind.status for problem in Problem}
    assert found.items() >= CONTRACT.items()
    assert all(problem.kind.help and problem.kind.title for problem in Problem)


def test_a_change_that_is_overtaken_and_one_that_names_no_version() -> None:
    found = {problem.kind.status for problem in Problem if problem.kind.type == "config-conflict"}
    assert found == {412, 428}
