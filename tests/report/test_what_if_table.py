"""The tables of ``--what-if``."""

from __future__ import annotations

import click
import pytest

from stablelint.finding import Level, Point, Report, Sweep, TargetReport
from stablelint.report.text import render_text
from stablelint.report.whatif import render_sweeps

SHALLOW = {
    "depth": 21,
    "gradient_ratio": 1.6e-17,
    "gradient_exponent": -1.953,
    "angle_exponent": -3.906,
    "least_sensitivity": 5.5e-18,
    "most_sensitivity": 0.31,
}
DEEP = {**SHALLOW, "depth": 97, "gradient_ratio": 0.0, "gradient_exponent": None, "angle_exponent": None}
SWEEPS = (
    Sweep(
        "config.number_of_layers",
        20,
        (
            Point(20, SHALLOW, Level.ERROR, ("SL101",)),
            Point(96, DEEP, Level.WARNING, ("SL202", "SL501")),
            Point(1000, reason="model.py:12 raises ValueError: that is too deep for anybody while the model is built"),
            Point(7, {}),
        ),
    ),
    Sweep("wdth", reason='model.py:Net has no argument wdth; did you mean "width"?'),
)


def test_one_row_for_each_value_and_one_sentence_for_what_cannot_be_said():
    assert render_sweeps(SWEEPS) == [
        "what if config.number_of_layers (now 20)",
        "    number_…  blocks       H  gradient   angle    least  most  worst finding",
        "          20      21  -16.80    -1.953  -3.906  5.5e-18  0.31  error SL101",
        "          96      97    -inf         ?       ?  5.5e-18  0.31  warning SL202 +1",
        "        1000  model.py:12 raises ValueError: that is too deep for anybody while",
        "              the model is built",
        "           7       ?       ?         ?       ?        ?     ?  none",
        "    predicted. H: decades of the gradient, first over last block; gradient,",
        "    angle: exponents per block; least, most: how far the output moves when an op",
        "    of the trunk changes by its own size",
        "",
        'what if wdth: model.py:Net has no argument wdth; did you mean "width"?',
        "",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits(width):
    assert max(map(len, render_sweeps(SWEEPS, width))) <= width


def test_colour_adds_nothing_but_colour():
    assert list(map(click.unstyle, render_sweeps(SWEEPS, colour=True))) == render_sweeps(SWEEPS)


def test_the_summary_of_the_target_stays_last():
    lines = render_text(Report((TargetReport("model.py:Net", what_if=SWEEPS),))).splitlines()
    assert lines[:-1] == render_sweeps(SWEEPS)
    assert lines[-1] == "model.py:Net: no findings"
    assert render_sweeps(()) == []
