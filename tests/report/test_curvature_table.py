"""Curvature as a table and as plain data."""

from __future__ import annotations

import json
import math

import click
import pytest

from stablelint.report.curvature import curvature_data, render_curvature
from stablelint.report.measured import render_measured_json
from stablelint.signals.curvature import Agreement, BlockSpectrum, Curvature, GradientNorms, Hessian, NoiseScale

COSINES = ((1.0, 0.5), (0.5, 1.0))
FULL = Curvature(
    loss="the model's own loss",
    hessian=Hessian(8.0, -2.0, (1e-5, 0.2), (True, False), 0.02, 10_000, 64, "double backward", 133.0),
    noise=NoiseScale(0.5, 0.01, 60.0, 1, 32, 2.0),
    agreement=Agreement(COSINES, 0.5, 1.6, ("a", "b"), COSINES, exact=True),
    norms=GradientNorms((1.0, 2.0, 3.0), 3.0),
    blocks=(
        BlockSpectrum(0, "add", "blocks.0", 2.5, 0.25, (True, True), 1.44, 0.01, 64, 64, 12),
        BlockSpectrum(1, "add", "blocks.1", 2.5, 0.25, (True, False), 1.44, 0.01, 64, 64, 24),
        BlockSpectrum(2, "custom", "head", None, None, (False, False), 0.09, 0.01, 64, 8, 0),
    ),
    remarks=("an op has no second derivative",),
    cost=160.0,
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_quantity_has_a_row_that_fits(width: int) -> None:
    text = render_curvature("model.py:Net", FULL, width, learning_rate=1.0, clip=0.01)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    assert "curvature and steps for the model's own loss" in flat
    for part in (
        "largest Hessian eigenvalue 8.0",
        "condition 400",
        "largest stable learning rate 0.25",
        "warm-up 185 steps to 1.0, which is 4.0 of",
        "gradient noise scale 120",
        "mean cosine 0.50",
        "gradient norm 2.0",
        "0 add blocks.0 2.5 0.25 1.2",
        "1 add blocks.1 2.5 <0.25 1.2",
        "2 custom head ? ? 0.30",
        "divides the learning rate by about 2e+02",
        "an op has no second derivative",
    ):
        assert part in flat
    assert click.unstyle(render_curvature("model.py:Net", FULL, width, True, learning_rate=1.0, clip=0.01)) == text


def test_what_could_not_be_measured_has_no_row() -> None:
    text = render_curvature("model.py:Net", Curvature("the given loss", remarks=("the Hessian: why",)), learning_rate=1)
    assert text == "model.py:Net: curvature and steps for the given loss\n    the Hessian: why\n"


def test_a_noise_scale_that_is_not_resolved_has_a_bound() -> None:
    found = Curvature("the given loss", noise=NoiseScale(-0.1, 0.2, 3.0, 2, 16, 2.0))
    assert "gradient noise scale >10 samples; 32 are too few" in " ".join(render_curvature("m", found).split())


def test_json_is_strict_and_has_what_is_derived() -> None:
    endless = Curvature("x", noise=NoiseScale(-0.1, math.inf, 3.0, 1, 2, 2.0))
    document = json.loads(
        render_measured_json([("m", FULL, ("said",)), ("n", endless, ())], learning_rate=1.0, clip=5.0)
    )
    assert document["targets"][0]["remarks"] == ["said"]
    full, other = (target["curvature"] for target in document["targets"])
    assert full["hessian"]["max_learning_rate"] == 0.25
    assert full["hessian"]["residuals"] == [1e-5, 0.2]
    assert full["warmup"]["steps"] == 185
    assert (full["noise"]["batch"], other["noise"]["batch"], other["hessian"]) == (120, "inf", None)
    assert (full["norms"]["median"], full["norms"]["warning"]) == (2, None)
    assert full["blocks"][1]["converged"] == [True, False]
    assert "samples" not in full["agreement"]
    assert "warmup" not in curvature_data(FULL)
