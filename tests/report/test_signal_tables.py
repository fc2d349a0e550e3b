"""The tables of `stablelint probe`."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import click
import pytest

from stablelint.report.blocks import bars
from stablelint.report.measured import render_measured_json
from stablelint.report.signals import render_signals
from stablelint.report.table import abbreviated
from stablelint.signals import Deep, Fit, HalfRun, Learning, Modes, ParameterSignal, Precision, Signal, Signals, Trigger
from stablelint.signals.comparison import Comparison, compare
from stablelint.signals.signals import NonFinite
from stablelint.site import Site

GOLDEN = Path(__file__).parent / "golden" / "signals.txt"


def trunk(depth: int, **extra) -> tuple[Signal, ...]:
    return tuple(
        Signal(
            index,
            "relu",
            Site(f"encoder.layers.{index}.feed_forward.activation", "/project/models/encoder.py", 10 + index),
            block=index,
            rms=0.5**index,
            grad_rms=1e-8 * 8**index,
            **extra,
        )
        for index in range(depth)
    )


ATTENTION = Signal(
    50, "softmax", Site("encoder.layers.0.attn", "/project/encoder.py", 40), peak=0.9, uniform_peak=0.06, entropy=0.1
)
BROKEN = Signal(51, "relu", Site("encoder.layers.8"), block=8, rms=math.inf, finite=False)
MEASURED = Signals(
    "measured",
    (*trunk(8, dead=0.5), ATTENTION, BROKEN),
    tuple(
        ParameterSignal(name, 1.0, grad)
        for name, grad in {"a.bias": 0.0, "b.bias": None, "gate": 1e-3, "c": 0.0}.items()
    ),
    nonfinite=NonFinite(51, "exp", Site("net.9", "model.py", 51, 5), "forward", "infinity"),
    seeds=3,
    discrimination=0.31,
    sharpness=2500.0,
    awakened=4,
)
#: Half of a decade below what is measured from block 5 on its way back.
PREDICTED = Signals(
    "predicted",
    tuple(
        replace(row, grad_rms=(row.grad_rms or 0.0) / (3 if (row.block or 0) < 6 else 1), grad_spread=0.12)
        for row in trunk(8)
    ),
    gradient_ratio_band=(1e-8, 3e-7),
)
FULL = compare(MEASURED, PREDICTED, {op: [op + 1] for op in range(7)})


def test_golden():
    rendered = render_signals("model.py:Net", FULL)
    if os.environ.get("STABLELINT_UPDATE_GOLDEN"):
        GOLDEN.write_text(rendered, encoding="utf-8")
    assert rendered == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits(width):
    assert max(map(len, render_signals("model.py:Net", FULL, width).splitlines())) <= width


def test_colour_adds_nothing_but_colour():
    assert click.unstyle(render_signals("x", FULL, colour=True)) == render_signals("x", FULL)


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("", ""),
        ("layers.11.attn", "layers.11.attn"),
        ("encoder.layers.11.attn", "e.layers.11.attn"),
        ("transformer.h.11.attention", "t.h.11.attention"),
        ("a_long_name_without_any_dot", "a_long_name_wit…"),
        ("vision_transformer.py:250", "…nsformer.py:250"),
        ("features.denseblock1.denselayer12.relu", "f.d1.d12.relu"),
        ("feature.pyramid.levels.3.conv", "f.p.l.3.conv"),
    ],
)
def test_long_paths_keep_their_numbers_and_their_end(path, short):
    assert abbreviated(path, 16) == short


def test_a_model_without_a_trunk():
    text = render_signals("x", Comparison(Signals("measured", ())))
    assert "no trunk was found" in text


def test_parameters_without_gradient_are_named():
    assert "no gradient: a.bias, b.bias, … (3 parameters)" in render_signals("x", FULL)
    assert "no gradient" not in render_signals("x", Comparison(Signals("measured", trunk(3))))


DEEP = Deep(
    learning=Learning((Fit("Adam", 3e-4, 1.2, 0.1, 12), Fit("SGD", 0.1, 1.2, math.inf, 3)), nothing=math.log(2)),
    triggers=(Trigger("a sample of zeros", 3, "sqrt", Site("net", "m.py", 5, 9), "backward", "NaN"),),
    tried=("a sample of zeros", "a sample twice"),
    precision=(Precision(1, "linear", Site(), 7e4, overflow=0.1, grad_underflow=0.25),),
    half=HalfRun(0.01, None),
    modes=Modes("Expected more than 1 value per channel", None, None, 0.5),
    failed=("bfloat16: TypeError",),
)


def test_what_deep_measures_stands_below():
    text = render_signals("x", Comparison(Signals("measured", trunk(3), deep=DEEP)))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "Adam 0.0003 12 1.2 0.10 86%",
        "SGD 0.1 3 1.2 inf 0%",
        "a sample of zeros not finite",
        "a sample twice finite",
        "largest value (float16: 65504) 7.0e+04 at linear",
        "gradient that is 0 in float16 25% at linear",
        "bfloat16: cosine of the gradient ?",
        "one sample alone fails",
        "eval mode against train mode 0.50",
        "not measured bfloat16: TypeError",
        "a sample of zeros: sqrt at m.py:5:9 yields NaN in the backward pass",
    ):
        assert row in rows, text
    assert max(map(len, text.splitlines())) <= 80


def test_without_deep_nothing_is_said_of_it():
    assert "learning rate" not in render_signals("x", Comparison(Signals("measured", trunk(3))))


def test_bars_follow_the_decades():
    assert [len(bar) for bar in bars([1.0, 1e-5, 1e-10])] == [8, 4, 1]
    assert bars([1.0, None, 0.0, math.inf, math.nan]) == ["########", "", "", "", ""]
    assert bars([1.0, 0.9]) == ["########", "########"], "less than a decade is drawn as level"
    assert bars([None]) == [""]


def test_fine_bars_tell_eighths_of_a_mark_apart():
    decades = bars([10.0**-at for at in range(11)], fine=True)
    assert decades[0] == "████████"
    assert decades[5] == "████"
    assert decades[10] == "▏", "the smallest is not nothing"
    assert len(set(decades)) == 11
    assert max(map(len, decades)) == 8


def test_surprises_stand_where_they_begin_and_mark_their_blocks():
    text = render_signals("x", FULL)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    marked = [row.removeprefix("> ")[0] for row in rows if "! " in row and "marks" not in row]
    assert marked == ["0", "1", "2", "3", "4", "5"]
    said = " ".join(text.split()).partition("blocks behind): ")[2]
    place = "/project/models/encoder.py:16 relu encoder.layers.6.feed_forward.activation"
    assert said.startswith(f"{place} hands back a gradient of 3.3e-04, predicted 1.1e-04 (4.8e-05 to 2.5e-04)")
    assert said.count("encoder.py:") == 1


def test_agreement_is_said_and_nothing_without_a_prediction():
    agreed = compare(MEASURED, replace(PREDICTED, rows=MEASURED.rows), {})
    assert "measured and predicted agree" in render_signals("x", agreed)
    alone = render_signals("x", Comparison(MEASURED))
    assert "predict" not in alone
    assert "surprise" not in alone


def test_the_predicted_rms_is_shown_where_there_is_room():
    for width, columns in ((80, 1), (140, 2)):
        (header,) = [line for line in render_signals("x", FULL, width).splitlines() if " block  op" in line]
        assert header.split().count("predicted") == columns


def test_data_of_blocks_and_surprises():
    (target,) = json.loads(render_measured_json([("m", FULL, ())]))["targets"]
    first, last = target["blocks"][0], target["blocks"][-2]
    assert first["gradient_low"] < first["gradient_predicted"] < first["gradient_high"] < first["gradient"]
    assert (first["surprising"], last["surprising"]) == (["gradient"], [])
    (surprise,) = target["surprises"]
    assert (surprise["file"], surprise["line"]) == ("/project/models/encoder.py", 16)
    assert surprise["low"] < surprise["predicted"] < surprise["high"] < surprise["measured"]
    assert target["predicted"]["source"] == "predicted"
    (alone,) = json.loads(render_measured_json([("m", Comparison(MEASURED), ())]))["targets"]
    assert (alone["predicted"], alone["surprises"]) == (None, [])


def test_what_waits_for_zero_initialised_weights_is_apart():
    """Both have no gradient yet; the first gets one when ``last.weight`` has moved, the second never does."""
    parameters = (
        ParameterSignal("inner.weight", 1.0, 0.0, sleepers=("last.weight",)),
        ParameterSignal("stuck.weight", 1.0, 0.0, sleepers=("other.weight",)),
        ParameterSignal("last.weight", 0.0, 0.5),
        ParameterSignal("other.weight", 0.0, 0.0),
    )
    text = " ".join(render_signals("x", Comparison(Signals("measured", trunk(3), parameters))).split())
    assert "no gradient until zero-initialised weights behind them move: inner.weight" in text
    assert "no gradient: stuck.weight, other.weight" in text


PARAMETERS = (
    ParameterSignal("first.weight", 0.5, 1e-4, matrix=True),
    ParameterSignal("head.weight", 0.1, 0.2, matrix=True),
    ParameterSignal("conv.weight", 0.1, 1e-9, matrix=True, invariance="scale"),
    ParameterSignal("conv.bias", 0.1, 1e-12, invariance="shift"),
    ParameterSignal("key.bias", 0.1, 0.0, invariance="shift"),
)


def test_the_gradient_over_the_weight_leaves_out_what_may_be_changed_without_effect():
    text = " ".join(render_signals("x", Comparison(Signals("measured", trunk(3), PARAMETERS))).split())
    assert "gradient over weight (rms): 2.0e-04 (first.weight) to 2.0 (head.weight)" in text
    assert "left out: 1 that may be scaled and 2 that may be shifted without effect" in text
    assert "no gradient" not in text
    one = " ".join(render_signals("x", Comparison(Signals("measured", trunk(3), PARAMETERS[1:2]))).split())
    assert "gradient over weight (rms): 2.0 (head.weight)" in one
    assert "left out" not in one


def test_json_lists_the_parameters_measured_beside_predicted():
    predicted = Signals("predicted", trunk(3), (replace(PARAMETERS[0], grad_rms=3e-4, invariance=""),))
    found = compare(Signals("measured", trunk(3), PARAMETERS), predicted, {})
    (target,) = json.loads(render_measured_json([("m", found, ())]))["targets"]
    first, _, conv, *_ = target["parameters"]
    assert first == {
        "parameter": "first.weight",
        "rms": 0.5,
        "gradient": 1e-4,
        "gradient_predicted": 3e-4,
        "relative": 2e-4,
        "invariance": None,
    }
    assert (conv["relative"], conv["invariance"], conv["gradient_predicted"]) == (None, "scale", None)
