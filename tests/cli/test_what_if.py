"""``--what-if``: what is understood, which values are swept, and whole runs that lose no row."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from stablelint import api, cli
from stablelint.config import Config
from stablelint.errors import TargetError, UsageError
from stablelint.finding import Level, Sweep, TargetReport
from stablelint.whatif import MOST_GIVEN, MOST_POINTS, Question, geometric, parse

FILES = {
    "stack.py": """
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self, depth: int = 4, width: int = 32):
                super().__init__()
                self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            def forward(self, x):
                for layer in self.layers:
                    x = torch.sigmoid(layer(x))
                return x
        """,
    "plain.py": """
        import torch
        def build():
            return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        """,
    "moody.py": """
        import os, torch
        def build(depth=2):
            if depth == 4:
                os._exit(3)
            if depth == 5:
                raise ValueError("five is right out")
            if depth == 6:
                while True:
                    pass
            return torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(depth)])
        """,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


def checked(spec: str, *what_if: str, timeout: float = 60.0) -> TargetReport:
    (target,) = api.check([spec], Config(timeout=timeout), what_if=what_if).targets
    return target


def swept(spec: str, what_if: str, **options: float) -> Sweep:
    (sweep,) = checked(spec, what_if, **options).what_if
    return sweep


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("depth=96", Question("depth", "to", (96,))),
        ("depth=12,24,48,96", Question("depth", "list", (12, 24, 48, 96))),
        ("depth=12,", None),
        ("depth=12..96", Question("depth", "range", (12, 96))),
        (" config.n_layer = 96 ", Question("config.n_layer", "to", (96,))),
        ("depth=-1..4", Question("depth", "range", (-1, 4))),
        ("depth=8,8,4", Question("depth", "list", (8, 4))),
        ("depth", None),
        ("depth=", None),
        ("depth=x", None),
        ("depth=0.5", None),
        ("depth=1...4", None),
        ("depth=1..", None),
        ("=4", None),
        ("a b=4", None),
    ],
)
def test_what_is_understood(text, question):
    if question is not None:
        assert parse([text]) == (question,)
        return
    with pytest.raises(UsageError, match=r"--what-if .* is not understood: write depth=96, depth=12,24,48 or depth=12"):
        parse([text])


def test_what_is_asked_twice_is_answered_once_and_too_much_is_refused():
    assert [question.argument for question in parse(["depth=4", "width=8", "depth=4"])] == ["depth", "width"]
    with pytest.raises(UsageError, match=f"{MOST_GIVEN + 1} values are too many"):
        parse(["depth=" + ",".join(map(str, range(MOST_GIVEN + 1)))])


@pytest.mark.parametrize(
    ("ends", "values"),
    [
        ((24, 96), (24, 48, 96)),
        ((12, 96), (12, 24, 48, 96)),
        ((20, 96), (20, 44, 96)),
        ((96, 12), (96, 48, 24, 12)),
        ((7, 8), (7, 8)),
        ((8, 8), (8,)),
        ((0, 4), (0, 1, 2, 4)),
        ((-2, -1), (-2, -1)),
        ((1, 2), (1, 2)),
    ],
)
def test_a_sweep_about_doubles(ends, values):
    assert geometric(*ends) == values


@pytest.mark.parametrize("end", [3, 100, 1000, 10**6])
def test_a_sweep_is_even_on_the_log_scale_and_never_long(end):
    values = geometric(1, end)
    assert (values[0], values[-1]) == (1, end)
    assert len(values) <= MOST_POINTS
    assert list(values) == sorted(set(values))


def test_a_sweep_starts_from_the_present_value_unless_it_is_given():
    to, over, listed = parse(["depth=96", "depth=3..6", "depth=5,1"])
    assert to.values(48) == (48, 96)
    assert over.values(48) == over.values(None) == (3, 6)
    assert listed.values(48) == (5, 1)
    with pytest.raises(TargetError, match=r"write --what-if depth=LOW\.\.96"):
        to.values(None)


def test_the_gradient_of_a_sigmoid_stack_vanishes_with_its_depth_and_its_exponent_stays():
    target = checked("stack.py", "depth=16", "width=64,128")
    depth, width = target.what_if
    assert depth.present == 4
    assert [point.value for point in depth.points] == [4, 8, 16]
    signals = [point.signals for point in depth.points]
    assert [each["depth"] for each in signals] == [4, 8, 16]
    exponents = [each["gradient_exponent"] for each in signals]
    assert exponents[1:] == pytest.approx([exponents[0]] * 2, abs=0.02)
    assert signals[2]["least_sensitivity"] < 1e-8 < 1e-4 < signals[0]["least_sensitivity"]
    assert (depth.points[0].level, depth.points[2].level) == (Level.NOTE, Level.ERROR)
    assert depth.points[2].codes
    assert [point.value for point in width.points] == [64, 128]
    assert target.signals["gradient_ratio"] == pytest.approx(signals[0]["gradient_ratio"], rel=0.2)


def test_a_value_that_fails_is_a_row_and_costs_the_others_nothing():
    sweep = swept("moody.py", "depth=3,4,5,6,7", timeout=15.0)
    assert [point.value for point in sweep.points] == [3, 4, 5, 6, 7]
    reasons = [point.reason for point in sweep.points]
    assert reasons[0] is reasons[4] is None
    assert sweep.points[4].signals["depth"] == 7
    assert "exit code 3" in reasons[1]
    assert "moody.py:7 raises ValueError: five is right out" in reasons[2]
    assert "15 s" in reasons[3]


def test_the_exit_code_is_that_of_the_check_and_json_has_the_sweeps(folder):
    arguments = ["check", "stack.py", "plain.py", "--format", "json", "--what-if", "depth=4,16", "--what-if", "wdth=3"]
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 0, "an error at another depth is not an error of the model"
    stack, plain = json.loads(done.stdout)["targets"]
    depth, wrong = stack["what_if"]
    assert (depth["argument"], depth["present"], depth["reason"]) == ("depth", 4, None)
    assert [point["value"] for point in depth["points"]] == [4, 16]
    assert depth["points"][1]["level"] == "error"
    assert depth["points"][1]["signals"]["source"] == "predicted"
    assert (wrong["points"], wrong["reason"]) == ([], 'stack.py:Net has no argument wdth; did you mean "width"?')
    assert plain["what_if"][0]["reason"] == "plain.py:build takes no integer argument, so depth cannot be varied"


def test_a_target_that_fails_is_not_swept_and_a_wrong_form_stops_the_run(folder):
    (folder / "raises.py").write_text("raise ValueError('no data')\n")
    assert checked("raises.py", "depth=4").what_if == ()
    done = CliRunner().invoke(cli.main, ["check", "stack.py", "--what-if", "depth"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("stablelint: error: --what-if 'depth' is not understood")
