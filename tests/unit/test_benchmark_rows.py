"""The model benchmarks apart from their clock: who is compared with whom, merged files, what engines run in."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from benchmarks import measured
from benchmarks.cases import computes_in, rival_precisions
from benchmarks.measured import (
    BEST,
    OURS,
    Row,
    Runner,
    measure,
    merged,
    read,
    strongest,
    summary,
    table,
    write,
)
from benchmarks.rivals import ENGINES, PRECISIONS, dense_networks
from pixeltier.models.evaluation.engines import export, first_output, onnxruntime_run, quantised_onnx
from pixeltier.models.networks.classification import ClassificationShape
from pixeltier.models.networks.super_resolution import SuperResolutionShape
from pixeltier.models.precision import Arithmetic
from tests.unit.models.networks import classification, super_resolution


def row(engine: str, network: str, ms: float, precision: str = "fp32", tier: str | None = None) -> Row:
    saved = {None: 0.0, "exact": -0.2}.get(tier, 0.5)
    return Row(
        "resnet18",
        "224x224",
        1,
        2,
        BEST,
        engine,
        network,
        precision,
        tier,
        saved,
        ms,
        0.9 * ms,
        1.1 * ms,
        2 * ms,
    )


ROWS = [
    row(OURS, "both", 20.0, "int8 + fp32", "exact"),
    row(OURS, "both", 8.0, "int8 + fp32", "balanced"),
    row(OURS, "refinement", 14.0),
    row("openvino", "refinement", 16.0),
    row("openvino", "refinement", 6.0, "int8"),
    row("onnxruntime", "refinement", 7.0, "int8"),
    row("openvino", "both", 25.0, "int8"),
    row("torch", "both", 24.0),
    row("torch", "base", 1.0),
]


def test_the_strongest_rival_computes_the_same_network_in_any_precision() -> None:
    exact, balanced, alone, *_ = ROWS
    assert strongest(ROWS, exact, "both") == ROWS[7]
    assert strongest(ROWS, balanced, "refinement") == ROWS[4]
    assert strongest(ROWS, alone, "refinement") == ROWS[4]  # never one of ours, though it was faster
    assert strongest([*ROWS, row(OURS, "refinement", 0.1)], alone, "refinement") == ROWS[4]
    assert strongest(ROWS[:3], exact, "both") is None


def test_rivals_of_another_case_do_not_count() -> None:
    exact = ROWS[0]
    for change in ({"batch": 8}, {"threads": 1}, {"dtype": "fp32"}, {"size": "64x64"}, {"model": "srresnet"}):
        stranger = replace(row("openvino", "both", 0.01), **change)
        assert strongest([*ROWS, stranger], exact, "both") == ROWS[7], change


def test_the_table_has_both_ratios_and_the_summary_names_the_rival() -> None:
    lines = table(ROWS).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 15
    assert lines[2].endswith("| 1.20 | 0.30 |")  # 24 / 20 on both networks, 6 / 20 on the refinement
    assert "| both networks | int8 + fp32 | exact | -20.0% | 20.0 (18.0 - 22.0) | 40.0 |" in lines[2]
    shown = summary(ROWS)
    assert "-20%, 20.0 ms int8 + fp32, **1.20x** torch fp32" in shown
    assert "50%, 8.0 ms int8 + fp32, **0.75x** openvino int8" in shown
    assert "| 14.0 ms fp32, **0.43x** openvino int8 |" in shown
    assert "refinement alone" in shown.splitlines()[0]


def test_a_case_without_one_of_the_columns_has_an_empty_cell() -> None:
    other = replace(row(OURS, "both", 5.0, tier="fast"), batch=8)
    lines = summary([*ROWS, other]).splitlines()
    assert {line.count("|") for line in lines} == {6}
    assert lines[-1] == "| 224x224, batch 8, best, 2 threads |  |  |  | 50%, 5.0 ms fp32 |"


def test_a_new_run_replaces_its_case_whole_and_leaves_others() -> None:
    kept = [*ROWS, replace(ROWS[0], batch=8), replace(ROWS[0], threads=1)]
    again = [replace(ROWS[0], ms=1.0)]
    found = merged(kept, again)
    assert [(one.threads, one.batch, one.ms) for one in found] == [(2, 1, 1.0), (2, 8, 20.0), (1, 1, 20.0)]
    small, large = replace(ROWS[0], size="64x64"), replace(ROWS[0], size="480x270")
    assert merged([large], [small]) == [small, large]


def test_rows_survive_a_file_and_are_not_merged_with_another_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results" / "models.json"
    write(ROWS, path)
    assert read(path) == ROWS
    document = json.loads(path.read_text())
    assert document["processor"]
    assert document["instruction_set"]
    assert document["versions"]["torch"] == version("torch")
    assert {"dtype", "precision", "threads", "batch", "size"} <= set(document["rows"][0])
    monkeypatch.setattr(measured, "machine", lambda: "another processor x64")
    with pytest.raises(ValueError, match="this is another processor x64"):
        read(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="older form"):
        read(path)


def test_every_runner_has_its_turn_in_every_round() -> None:
    turns: list[str] = []
    runners = [
        Runner(OURS, "both", "fp32", lambda: turns.append("a"), "exact", -0.2),
        Runner("torch", "both", "fp32", lambda: turns.append("b")),
    ]
    ours, rival = measure(("resnet18", "224x224", 1, 1, "fp32"), runners, 0.0)
    assert turns[4:] == ["a", "a", "b", "b"] * 5  # before them two of each that are not counted
    assert (ours.tier, ours.macs_saved, rival.tier) == ("exact", -0.2, None)
    assert 0 <= ours.low_ms <= ours.ms <= ours.high_ms
    assert ours.case == rival.case


def test_engines_run_in_what_was_asked_for_or_in_all_they_have() -> None:
    assert rival_precisions("int8", "openvino", "amx") == ("int8",)
    assert rival_precisions("int8", "torch", "amx") == ()
    assert rival_precisions("bf16", "onnxruntime", "amx") == ()
    assert rival_precisions(BEST, "openvino", "amx") == ("fp32", "bf16", "int8")
    for engine in ENGINES:  # emulated bf16 is nobody's best
        found = rival_precisions(BEST, engine, "avx2")
        assert found == tuple(one for one in PRECISIONS[engine] if one != "bf16")


def test_ours_says_what_each_network_computes_in() -> None:
    mixed = computes_in(Arithmetic(torch.bfloat16, int8_base=True), classifier=True)
    assert mixed == {"base": "int8", "refinement": "bf16", "both": "int8 + bf16"}
    assert computes_in(Arithmetic(torch.float32), classifier=True)["both"] == "fp32"
    assert set(computes_in(Arithmetic(torch.bfloat16), classifier=False).values()) == {"bf16"}


def test_rivals_of_both_networks_give_the_exact_answer() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for shape in (ClassificationShape(5), ClassificationShape(5, 7, context=0, base_answers=0)):
        model = classification(shape)
        both = dense_networks(model)["both"]
        with torch.inference_mode():
            torch.testing.assert_close(both(x), model(x))
    resolver = super_resolution(SuperResolutionShape(base_blocks=1, blocks=1))
    networks = dense_networks(resolver)
    with torch.inference_mode():
        torch.testing.assert_close(networks["both"](x), resolver(x))
        torch.testing.assert_close(networks["base"](x), resolver.base(x)[1])


def test_a_qdq_model_is_in_int8_and_close_to_the_network() -> None:
    network = dense_networks(super_resolution(SuperResolutionShape(base_blocks=1, blocks=1)))["base"]
    photos = list(torch.rand(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1)))
    model = quantised_onnx(network, photos)
    assert b"QuantizeLinear" in model
    with torch.inference_mode():
        wanted = network(photos[0])
    rounded = first_output(onnxruntime_run(model, 1))(photos[0])
    exact = first_output(onnxruntime_run(export(network, photos[0]), 1))(photos[0])
    torch.testing.assert_close(exact, wanted, atol=1e-4, rtol=1e-4)
    error = (rounded - wanted).square().mean() / wanted.var()
    assert 0 < error < 0.1
