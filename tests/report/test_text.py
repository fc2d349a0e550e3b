"""The report for people, compared with golden files at 80 columns, and the promises that hold for any report.

``STABLELINT_UPDATE_GOLDEN=1 pytest tests/report`` writes the golden files anew.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest

from stablelint.finding import Finding, Level, Report, Standing, TargetReport
from stablelint.report.text import render_finding, render_text
from stablelint.site import Site

GOLDEN = Path(__file__).parent / "golden"

SOURCE = (
    "class Attention(nn.Module):\n"
    "    def forward(self, q, k, v):\n"
    "        scores = q @ k.transpose(-2, -1)\n"
    "        weights = scores.softmax(-1)\n"
    "\n"
    "        return self.projection(weights @ v) + self.another_projection_with_a_long_name(weights @ v)\n"
).splitlines()

ERROR = Finding(
    "SL401",
    "unscaled-attention",
    Level.ERROR,
    "scores are sums of 64 products and nothing scales them (std 8.1 if q and k have unit variance)",
    Site("blocks.3.attn", "model.py", 4, 19),
    Standing.CONFIRMED,
    fix="multiply the scores by 1/sqrt(64) before softmax, or call F.scaled_dot_product_attention",
    evidence="attention puts 0.91 on one token; gradient to q and k is 3e-4 of the scaled one",
)
WARNING = Finding(
    "SL501",
    "bad-init-scale",
    Level.WARNING,
    "30 layers lose a factor 0.41 each",
    Site("net.0", "model.py", 6, 60),
    Standing.PREDICTED,
    evidence="gradient x 3e-12 across the chain",
    modules=tuple(f"net.{index}" for index in range(30)),
)
NOTE = Finding(
    "SL201", "norm-on-skip", Level.NOTE, "BatchNorm on the skip of 2 blocks", Site("layer1.0"), Standing.CLEARED
)
SYMPTOM = Finding(
    "SL905", "dead-units", Level.WARNING, "81 % of the units are dead", Site("fc", "gone.py", 3), Standing.CONFIRMED
)
SIGNALS = {
    "source": "measured",
    "depth": 24,
    "gradient_ratio": 2.1e-4,
    "growth_per_block": 0.7,
    "gradient_exponent": -0.3567,
    "angle_exponent": -1e-5,
    "break_block": 5,
    "break_op": "softmax blocks.3.attn",
    "dead": None,
}

BAND = {"gradient_ratio_low": 1e-4, "gradient_ratio_high": 4.4e-4}
SEVERAL = Report(
    (
        TargetReport(
            "model.py:Net",
            findings=(WARNING, NOTE, ERROR, SYMPTOM),
            signals=SIGNALS,
            remarks=("the inputs were inferred: one float tensor (2, 3, 32, 32); write example_inputs() to choose",),
        ),
        TargetReport("broken.py", status="failed", reason="NameError: name 'x' is not defined\n(broken.py, line 3)"),
        TargetReport("torchvision:resnet18", signals={**SIGNALS, "source": "predicted", **BAND}),
    )
)
INFERRED = "inputs inferred: x = float[2, 3, 32, 32]; to choose them add `def example_inputs(): ...` to the file"
IN_ONE_FILE = Report(
    (
        TargetReport(
            "model.py:UNet",
            models=("UNet", "Down", "Up"),
            arguments="UNet(n_channels=3, width=32, depth=2)",
            origin="the call in train.py:102",
            guessed=("width", "depth"),
            remarks=(INFERRED,),
            signals=SIGNALS,
        ),
        *(
            TargetReport(
                f"model.py:resnet{depth}",
                arguments=f"resnet{depth}(num_classes=10)",
                origin="its signature",
                remarks=(INFERRED, "the branch at model.py:3 was followed one way"),
                findings=(WARNING,) if depth == 34 else (),
            )
            for depth in (18, 34, 50, 101)
        ),
        TargetReport(
            "model.py:GPT",
            status="failed",
            reason="no values for its configuration",
            suggestion="def build(): return GPT(...)",
        ),
        TargetReport("model.py:Head", status="skipped", reason="model.py:Head needs trunk, and no values were found"),
        TargetReport("model.py:Neck", status="skipped", reason="model.py:Neck needs trunk, and no values were found"),
    )
)
FOLDER = Report(
    (
        *(
            replace(
                each,
                target=each.target.replace("model.py", "nets/vision/model.py"),
                reason=each.reason and each.reason.replace("model.py", "nets/vision/model.py"),
            )
            for each in IN_ONE_FILE.targets
        ),
        TargetReport("nets/plain.py:build", signals={"source": "predicted", "gradient_ratio": 0.5}),
        TargetReport("old.py", status="skipped", reason="old.py:3 raises ValueError: bad file"),
        *(
            TargetReport(
                f"text/{name}.py:Net",
                status="skipped",
                reason="einops is not installed",
                suggestion="pip install einops",
            )
            for name in "abc"
        ),
    ),
    files=40,
    searched=("nets", "text"),
)
ONE = Report((TargetReport("model.py", findings=(NOTE,), signals=SIGNALS),))


def source(path: str) -> list[str]:
    return SOURCE if path == "model.py" else []


@pytest.mark.parametrize(
    ("name", "report", "options"),
    [
        ("several", SEVERAL, {}),
        ("several-verbose", SEVERAL, {"verbose": True}),
        ("one-with-hidden-note", ONE, {}),
        ("nothing", Report(), {}),
        ("no-models", Report(files=12, searched=("FOLDER",)), {}),
        ("one-file", IN_ONE_FILE, {}),
        ("folder", FOLDER, {}),
        ("folder-verbose", FOLDER, {"verbose": True}),
    ],
)
def test_golden(name, report, options):
    rendered = render_text(report, source=source, **options)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("STABLELINT_UPDATE_GOLDEN"):
        path.write_text(rendered, encoding="utf-8")
    assert rendered == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("report", [SEVERAL, IN_ONE_FILE, FOLDER], ids=["several", "one-file", "folder"])
def test_no_line_is_wider_than_asked(report, width, verbose):
    text = render_text(report, width=width, verbose=verbose, source=source)
    assert [line for line in text.splitlines() if len(line) > width and " " in line.strip()[:width]] == []


@pytest.mark.parametrize("report", [SEVERAL, IN_ONE_FILE, FOLDER], ids=["several", "one-file", "folder"])
def test_colour_adds_nothing_but_colour(report):
    coloured = render_text(report, colour=True, verbose=True, source=source)
    assert click.unstyle(coloured) == render_text(report, verbose=True, source=source)
    assert coloured != click.unstyle(coloured)


def test_without_colour_there_are_no_escape_sequences_not_even_from_user_text():
    nasty = Finding(
        "SL401", "a", Level.ERROR, "m\x1b[31mred\nnext", Site("mo\x1bdule", "model.py", 1, 1), Standing.NOT_PROBED
    )
    report = Report((TargetReport("t\x1b", findings=(nasty,), remarks=("r\x07",)),))
    text = render_text(report, source=lambda path: ["x = '\x1b[2J'"])
    assert re.search(r"[\x00-\x09\x0b-\x1f]", text) is None


def test_a_finding_without_a_file_stands_at_its_target():
    first, *rest = render_finding(NOTE, target="model.py:Net")
    assert first == "model.py:Net note SL201 norm-on-skip  layer1.0"
    assert not any(line.lstrip().startswith(">") for line in rest)


def test_modules_are_counted():
    assert "net.0, net.1, … (30 modules)" in "\n".join(render_finding(WARNING, width=120, source=source))


@pytest.mark.parametrize(
    ("code", "standing", "evidence", "line"),
    [
        ("SL401", Standing.PREDICTED, "gradient x 3e-12", "predicted: gradient x 3e-12"),
        ("SL401", Standing.PREDICTED, None, "predicted"),
        ("SL401", Standing.CONFIRMED, None, "confirmed by the probe"),
        ("SL401", Standing.CLEARED, "peak 0.9", "predicted: peak 0.9 · the probe did not find it"),
        ("SL401", Standing.CLEARED, "measured: no dead-units here", "measured: no dead-units here"),
        ("SL401", Standing.NOT_PROBED, None, "not probed"),
        ("SL905", Standing.CONFIRMED, "peak 0.9", "measured by the probe: peak 0.9"),
        ("SL905", Standing.PREDICTED, None, "predicted from the graph"),
    ],
)
def test_the_standing_line(code, standing, evidence, line):
    found = Finding(code, "name", Level.ERROR, "message", Site("m"), standing, evidence=evidence)
    assert render_finding(found)[2] == f"    {line}"


def test_measured_evidence_is_not_called_predicted():
    measured = Finding("SL401", "a", Level.ERROR, "m", Site(), Standing.CONFIRMED, evidence="measured: peak 0.9")
    assert "    measured: peak 0.9 · confirmed by the probe" in render_finding(measured)
