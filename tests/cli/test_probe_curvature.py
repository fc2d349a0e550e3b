"""`stablelint probe --curvature`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from stablelint import cli
from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import Comparison
from stablelint.signals.curvature import Curvature, GradientNorms, Hessian
from stablelint.site import Site

HESSIAN = Hessian(4.0, -1.0, (0.0, 0.0), (True, True), 0.1, 1000, 9, "double backward", 19.0)
CURVATURE = Curvature("the given loss", HESSIAN, norms=GradientNorms((1.0, 2.0), 2.0))
SIGNALS = Comparison(Signals("measured", (Signal(0, "relu", Site("net.0"), block=0, grad_rms=1.0),)))


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablelint.api.curvature", lambda spec, config: [("model.py:Net", CURVATURE, ("assumed",))])
    monkeypatch.setattr("stablelint.api.probe", lambda spec, config: [("model.py:Net", SIGNALS, ())])


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.main, ("probe", "model.py", *arguments, "--no-config"))


def test_curvature_is_shown_with_the_steps_that_were_asked_for() -> None:
    result = run("--curvature", "--learning-rate", "2", "--clip", "0.01")
    flat = " ".join(result.stdout.split())
    assert "curvature and steps for the given loss" in flat
    assert "divides the learning rate by about 1.5e+02" in flat
    assert result.stderr == "note: assumed\n"


def test_json_stands_alone_on_stdout() -> None:
    (target,) = json.loads(run("--curvature", "--learning-rate", "2", "--format", "json").stdout)["targets"]
    assert (target["target"], target["remarks"]) == ("model.py:Net", ["assumed"])
    assert target["curvature"]["hessian"]["max_learning_rate"] == 0.5
    assert target["curvature"]["warmup"]["ratio"] == 4
    (target,) = json.loads(run("--format", "json").stdout)["targets"]
    assert target["signals"]["depth"] == 1


def test_what_needs_curvature_says_so() -> None:
    refused = run("--clip", "1")
    assert refused.exit_code == 2
    assert refused.stderr == "stablelint: error: --learning-rate and --clip need --curvature\n"
