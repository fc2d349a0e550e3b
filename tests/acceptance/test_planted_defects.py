"""The defects that a first user would try, each in four styles: the right cause, at the right line, as an error."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch
from planted_blocks import NORM_ON_SKIP, POST_ACTIVATION, UNSCALED
from planted_stacks import DEAD_RELU, DEFAULT_RELU, NORMAL_INIT, SIGMOID_CHAIN

from stablelint.api import check_model
from stablelint.config import Config
from stablelint.finding import Level, TargetReport
from stablelint.targets.build import candidates
from stablelint.targets.spec import Request

HEADER = "import math\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def check(source: str, tmp_path: Path, *, probe: bool) -> tuple[TargetReport, int]:
    """The report on a file and the line that its ``# finding`` comment marks."""
    text = HEADER + textwrap.dedent(source)
    path = tmp_path / "model.py"
    path.write_text(text, encoding="utf-8")
    torch.set_num_threads(1)
    built = candidates(Request(f"{path}:build"), real=probe)[0].build()
    report = check_model(
        built.model,
        built.inputs,
        config=Config(seeds=1),
        name="model.py",
        probe=probe,
        rebuild=built.rebuild,
        origins=built.origins,
    )
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "# finding" in line]
    return report, marked[0]


def assert_found(source: str, tmp_path: Path, name: str, least: Level = Level.ERROR) -> None:
    report, line = check(source, tmp_path, probe=True)
    found = [(finding.name, finding.site.line) for finding in report.findings if finding.level >= least]
    assert (name, line) in found, report.findings
    static, _ = check(source, tmp_path, probe=False)
    assert (name, line) in [(finding.name, finding.site.line) for finding in static.findings], static.findings


def styles(sources: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", sources.values(), ids=sources.keys())


@styles(SIGMOID_CHAIN)
def test_twenty_sigmoid_layers(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "deep-sigmoid-chain")


@styles(DEFAULT_RELU)
def test_thirty_default_initialised_relu_layers(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "bad-init-scale")


@styles(UNSCALED)
def test_attention_of_head_size_64_without_scale(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "unscaled-attention", Level.WARNING)


@styles(NORMAL_INIT)
def test_layers_drawn_from_a_standard_normal(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "bad-init-scale")


@styles(POST_ACTIVATION)
def test_fifty_post_activation_blocks_without_norm(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "post-activation-residual")


@styles(NORM_ON_SKIP)
def test_batch_norm_on_the_skip_of_twenty_blocks_is_named_though_it_does_no_harm_there(
    source: str, tmp_path: Path
) -> None:
    assert_found(source, tmp_path, "norm-on-skip", Level.WARNING)
    report, _ = check(source, tmp_path, probe=True)
    assert report.count(Level.ERROR) == 0


@styles(DEAD_RELU)
def test_a_dead_relu_is_reported_where_it_is(source: str, tmp_path: Path) -> None:
    assert_found(source, tmp_path, "dead-units")
