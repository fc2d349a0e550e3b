"""The table at the end of a run over many files."""

from __future__ import annotations

import time

import pytest

from stablelint.finding import Finding, Level, Report, Standing, TargetReport
from stablelint.report.overview import is_sweep, nothing_found, verdict
from stablelint.report.text import render_text
from stablelint.report.tried import render_tried
from stablelint.site import Site


def finding(level: Level, code: str = "SL101") -> Finding:
    return Finding(code, "name", level, "message", Site("net", "gone.py", 3), Standing.PREDICTED)


def rows(report: Report, **options) -> list[str]:
    """The lines of the table."""
    lines = render_text(report, **options).splitlines()
    start = next(index for index, line in enumerate(lines) if line.split()[:2] == ["model", "verdict"])
    return lines[start : lines.index("", start)]


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ((), "clean"),
        ((Level.NOTE,), "note SL101"),
        ((Level.NOTE, Level.ERROR, Level.WARNING), "error SL101 +2"),
    ],
)
def test_the_verdict_is_the_worst_finding(levels, words):
    assert verdict(TargetReport("m.py:A", findings=tuple(map(finding, levels)))) == words


def test_a_sweep_is_a_folder_several_files_or_many_models():
    one_file = tuple(TargetReport(f"m.py:A{index}") for index in range(20))
    assert not is_sweep(Report(one_file))
    assert is_sweep(Report((*one_file, TargetReport("m.py:Z"))))
    assert is_sweep(Report(one_file[:1], searched=(".",)))
    assert is_sweep(Report((TargetReport("a.py:A"), TargetReport("b.py:A"))))
    assert not is_sweep(Report((TargetReport("torchvision:resnet18"), TargetReport("timm:convnext"))))


def test_clean_models_have_a_row_and_no_paragraph():
    clean = TargetReport(
        "a.py:Clean", signals={"source": "predicted", "gradient_ratio": 0.5}, remarks=("inputs inferred: x",)
    )
    bad = TargetReport("b.py:Bad", findings=(finding(Level.ERROR),), remarks=("inputs inferred: y",))
    report = Report((clean, bad))
    text = render_text(report)
    assert "a.py:Clean: no findings" not in text
    assert "inputs inferred: x" not in text
    assert "b.py:Bad: 1 error" in text
    assert "inputs inferred: y" in text
    header, first, second, *_ = rows(report)
    assert header.split() == ["model", "verdict", "gradient"]  # nothing was guessed
    assert first.split() == ["a.py:Clean", "clean", "0.50"]
    assert second.split() == ["b.py:Bad", "error", "SL101", "?"]
    assert "2 targets: 1 error (-v shows every model)" in text
    assert "a.py:Clean: no findings" in render_text(report, verbose=True)


def test_what_else_is_to_be_known_of_a_clean_model_is_said_with_its_name():
    remark = "einops is not installed and was stood in for"
    report = Report(tuple(TargetReport(f"{name}.py:Net", remarks=(remark,)) for name in "ab"))
    assert f"note: a.py:Net, b.py:Net: {remark}\n" in render_text(report, width=100)
    alone = Report((TargetReport("a.py:Net", remarks=(remark,)), TargetReport("b.py:Net")))
    assert f"note: a.py:Net: {remark}\n" in render_text(alone)


def test_guesses_fit_into_their_column():
    names = ("config.width", "config.depth", "config.heads", "config.dropout", "config.classes")
    report = Report(
        (TargetReport("a.py:A", guessed=names, arguments="A(c)"), TargetReport("b.py:B", guessed=("n" * 99,)))
    )
    _, first, second, *_ = rows(report)
    assert first.endswith("width, depth, heads +2")
    assert second.endswith("…")
    assert len(second) <= 80


def test_a_table_needs_no_reached_model():
    text = render_text(
        Report((TargetReport("a.py:A", status="skipped", reason="it raises"),), files=3, searched=("a",))
    )
    assert text == "not reached:\n    a.py:A: it raises\n\n1 target in 3 files: no findings, 1 not reached\n"


def test_what_fails_the_run_and_what_does_not_are_told_apart():
    report = Report(
        (
            TargetReport("a.py:A", status="failed", reason="no values", suggestion="def build(): return A(...)"),
            TargetReport("b.py", status="skipped", reason="it raises"),
            TargetReport("c.py:C", status="skipped", reason="no x", suggestion="pip install x"),
        )
    )
    assert render_text(report) == (
        "not checked:\n    a.py:A: no values; add `def build(): return A(...)`\n\n"
        "not reached:\n    b.py: it raises\n    c.py:C: no x\n`pip install x` would reach 1 more model\n\n"
        "3 targets: no findings, 1 not checked, 2 not reached\n"
    )


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (Report(files=12, searched=("FOLDER",)), "no models were found in 12 files below FOLDER"),
        (Report(files=1), "no models were found in 1 file"),
        (Report(), None),
        (Report((TargetReport("a.py:A"),), files=1), None),
    ],
)
def test_nothing_found_is_said(report, sentence):
    assert nothing_found(report) == sentence
    assert render_tried(Report(files=1)) == "no models were found in 1 file\n"


def test_what_was_tried_is_shown_in_order():
    report = Report(
        (
            TargetReport("m.py:A", arguments="A(8)", origin="its signature", tried=("A(): TypeError", "A(8): built")),
            TargetReport("m.py:B", status="failed", reason="no values", tried=tuple(f"B({n})" for n in range(10))),
            TargetReport("m.py:C"),
        )
    )
    text = render_tried(report)
    first, second, third = text.split("\n\n")
    assert (
        first == "m.py:A\n    1. A(): TypeError\n    2. A(8): built\n    => checked, built as A(8): from its signature"
    )
    assert second.startswith("m.py:B\n     1. B(0)\n")
    assert second.endswith("    10. B(9)\n    => not checked: no values")
    assert third == "m.py:C\n    nothing had to be tried\n    => checked\n"
    assert render_tried(report, colour=True) != text


def test_five_hundred_targets_are_rendered_in_an_instant():
    reached = [
        TargetReport(
            f"folder_{index // 10}/file_{index // 3}.py:Model{index}",
            arguments=f"Model{index}(width={index})",
            guessed=("width",),
            remarks=(f"inputs inferred: x = float[2, {index}]",),
            signals={"source": "predicted", "gradient_ratio": 0.5},
        )
        for index in range(400)
    ]
    missed = [
        TargetReport(
            f"other/file_{index}.py:Net", status="skipped", reason="x is not installed", suggestion="pip install x"
        )
        for index in range(100)
    ]
    report = Report((*reached, *missed), files=300, searched=(".",))
    times = []
    for _ in range(5):
        began = time.process_time()
        text = render_text(report)
        times.append(time.process_time() - began)
    assert len(text.splitlines()) > 500
    assert min(times) < 0.05
