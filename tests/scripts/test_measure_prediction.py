"""The script that compares prediction and truth: a run on two variants, its statistics, and what it switches off."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"
TWO = ("mlp12_tanh_x0.25", "resnet12_nonorm_x4")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured") / "truths.jsonl"


def run(cache: Path, *options: str) -> list[str]:
    """The lines of the two cases, each once."""
    command = [sys.executable, str(SCRIPTS / "measure_prediction.py"), "--seeds", "2", "--cache", str(cache)]
    chosen = [word for name in TWO for word in ("--only", name)]
    done = subprocess.run([*command, *chosen, *options], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def cells(lines: list[str], start: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(start))


def test_two_variants_are_measured_once_and_predicted_each_time(cache: Path) -> None:
    first = run(cache)
    vanishing, exploding = (cells(first, name) for name in TWO)
    assert vanishing[5] == "vanish"
    assert exploding[5] == "explode"
    assert float(vanishing[2]) < -6
    assert float(exploding[2]) > 4
    assert float(vanishing[4]) < 0.2  # the error of H
    written = cache.read_text()
    assert len(written.splitlines()) >= 2 * 8  # the least number of draws of a generated variant
    assert cells(run(cache), TWO[0])[1:6] == vanishing[1:6]
    assert cache.read_text() == written


def test_bars_that_are_missed_are_said(cache: Path) -> None:
    lines = run(cache, "--quiet")
    assert cells(lines, "FAIL  generated")[3] == "2"
    assert any(line.startswith("PASS  right class") for line in lines)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.usefixtures("scripts")
def test_statistics() -> None:
    report = module("prediction_report")
    assert report.spearman([1, 2, 3, 4], [10, 20, 30, 25]) == pytest.approx(0.8)
    assert report.spearman([1, 1, 2], [3, 3, 1]) == pytest.approx(-1.0)
    assert report.quantile([3, 1, 2, 4, 5, 6, 7, 8, 9, 10], 0.9) == 9
    rows = [report.Row(f"case{h}", "mlp", h + 0.1, h, [h - 0.3, h], (h - 0.2, h + 0.2)) for h in (-4.0, 2.95, 5.0)]
    assert list(report.confusion(rows))[2].split() == ["healthy", "0", "0", "1"]
    assert report.coverage(rows) == 1
    assert report.coverage_of_draws(rows) == 0.5
    figures = {bar.name: bar.figure for bar in report.bars(rows)}
    assert figures["right class"] == pytest.approx(2 / 3)
    assert figures["median error of H, decades"] == pytest.approx(0.1)
    assert math.isnan(figures["worst RNN, LSTM or GRU at T=64"])


#: A case that each component is needed for, where one of the small ones is.
HURT = {
    "correlations of values": "mlp12_relu_bn",
    "correlations of the cotangent": "tf6_noskip",
    "means": "conv16_skip_nonorm",
    "softmax concentration": "tf8_nonorm_x4",
    "token and spatial profiles": "conv20_default",
    "degrees of freedom in norms": "mlp12_relu_bn",
    "distributions that are not normal": "unet3",
    "gradient depending on the value": "conv16_skip_nonorm",
    "spread of one random network": "conv20_default",
}


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("component", HURT)
def test_a_component_that_is_switched_off_is_missed_and_comes_back(component: str) -> None:
    from stablelint.inputs import Inputs
    from stablelint.predict import predict
    from stablelint.trace import trace

    case = next(case for case in module("prediction_variants").variants() if case.name == HURT[component])
    with torch.random.fork_rng():
        default = torch.get_default_dtype()
        try:
            model, args, kwargs = module("prediction_truth").built(case, 0)
            graph = trace(model, Inputs(*args, **kwargs)).graph
        finally:
            torch.set_default_dtype(default)
    whole = predict(graph).gradient_ratio
    with module("prediction_ablation").ABLATIONS[component]():
        without = predict(graph).gradient_ratio
    assert whole is not None
    assert without is not None
    assert abs(math.log10(without / whole)) > 0.03
    assert predict(graph).gradient_ratio == whole


@pytest.mark.usefixtures("scripts")
def test_a_patch_that_finds_nothing_fails() -> None:
    ablation = module("prediction_ablation")
    with pytest.raises(AttributeError), ablation.patched(ablation.domain, "no_such_part", None):
        pass
