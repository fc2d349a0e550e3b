"""The JSON report is strict, has the promised shape and is the same in every run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from stablelint import __version__
from stablelint.finding import Finding, Level, Report, Standing, TargetReport
from stablelint.report.json import render_json
from stablelint.site import Site

FINDING = Finding(
    "SL401",
    "unscaled-attention",
    Level.ERROR,
    "message with ünicode and a lone surrogate \udcff",
    Site("attn", "model.py", 4, 19),
    Standing.CONFIRMED,
    facts={
        "head_dim": 64,
        "ratio": float("nan"),
        "growth": float("-inf"),
        "std": np.float32(0.1),
        "count": np.int64(3),
        "exact": 0.1234567890123,
        "scaled": False,
        "name": None,
        "shape": (2, float("inf")),
    },
    fix="scale",
    modules=("attn", "attn2"),
)
REPORT = Report(
    (
        TargetReport(
            "model.py", findings=(FINDING,), signals={"depth": 3, "gradient_ratio": float("inf")}, seconds=1.23456
        ),
        TargetReport("broken.py", status="failed", reason="it raises", remarks=("remark",)),
    )
)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


def parse(report: Report, **options) -> dict:
    return json.loads(render_json(report, **options), parse_constant=refuse)


def test_shape():
    document = parse(REPORT)
    assert list(document) == ["stablelint", "targets", "summary"]
    assert document["stablelint"] == __version__
    assert document["summary"] == {"targets": 2, "failed": 1, "skipped": 0, "errors": 1, "warnings": 0, "notes": 0}
    first, second = document["targets"]
    assert list(first) == list(second) == [
        "target", "status", "reason", "suggestion", "models", "arguments", "origin", "guessed", "findings", "signals",
        "what_if", "remarks", "seconds",
    ]  # fmt: skip
    assert (second["status"], second["reason"], second["signals"], second["remarks"]) == (
        "failed",
        "it raises",
        None,
        ["remark"],
    )
    (finding,) = first["findings"]
    assert list(finding) == [
        "code", "name", "level", "message", "file", "line", "column", "module", "modules", "facts", "standing",
        "evidence", "fix",
    ]  # fmt: skip
    assert (finding["level"], finding["standing"], finding["line"]) == ("error", "confirmed", 4)


def test_how_a_target_was_built_and_what_would_help():
    built = TargetReport(
        "a.py:UNet",
        models=("UNet", "Down"),
        arguments="UNet(3, width=8)",
        origin="the call in train.py:3",
        guessed=("width",),
        tried=("UNet(): TypeError",),
    )
    missed = TargetReport("b.py:Net", status="skipped", reason="no einops", suggestion="pip install einops")
    report = Report((built, missed))
    document = parse(report)
    first, second = document["targets"]
    assert (first["models"], first["arguments"], first["origin"], first["guessed"], first["suggestion"]) == (
        ["UNet", "Down"],
        "UNet(3, width=8)",
        "the call in train.py:3",
        ["width"],
        None,
    )
    assert (second["models"], second["arguments"], second["origin"], second["guessed"]) == ([], None, None, [])
    assert (second["status"], second["suggestion"]) == ("skipped", "pip install einops")
    assert (document["summary"]["failed"], document["summary"]["skipped"]) == (0, 1)
    assert "tried" not in first
    assert [target["tried"] for target in parse(report, tried=True)["targets"]] == [["UNet(): TypeError"], []]


def test_numbers_that_json_has_not():
    (finding,) = parse(REPORT)["targets"][0]["findings"]
    assert finding["facts"] == {
        "head_dim": 64,
        "ratio": "nan",
        "growth": "-inf",
        "std": 0.1,
        "count": 3,
        "exact": 0.123457,
        "scaled": False,
        "name": None,
        "shape": [2, "inf"],
    }


def test_only_seconds_differ_between_runs():
    later = replace(REPORT, targets=tuple(replace(target, seconds=9.0) for target in REPORT.targets))
    assert render_json(REPORT) != render_json(later)
    assert render_json(REPORT, timings=False) == render_json(later, timings=False)


def test_findings_are_sorted_by_place():
    earlier = replace(FINDING, site=Site("attn", "model.py", 2, 1))
    report = Report((TargetReport("model.py", findings=(FINDING, earlier)),))
    assert [found["line"] for found in parse(report)["targets"][0]["findings"]] == [2, 4]


def test_ascii_only():
    assert render_json(REPORT).isascii()
