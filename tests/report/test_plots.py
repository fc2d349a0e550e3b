"""The figures of `stablelint probe --plot`."""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from stablelint.errors import UsageError
from stablelint.report.plot import Measured, plotter
from stablelint.report.plot.curves import curves, ticks
from stablelint.report.plot.page import render_page
from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import Comparison, compare
from stablelint.site import Site


def signals(depth: int, *, predicted: bool = False, seeds: int = 3) -> Signals:
    """A decade per block is lost on the way back; the first three blocks lie far off, at 0 and beyond all numbers."""
    rows = [
        Signal(
            op,
            "linear",
            Site(f"encoder.layers{op}.mlp", "net.py", 10 + op),
            block=op,
            rms=1.0,
            grad_rms=10.0 ** (op - depth),
            grad_spread=0.1,
            rms_spread=None if predicted or seeds == 1 else 0.01,
            similarity=1 - 0.5**op,
        )
        for op in range(depth)
    ]
    if not predicted:
        rows[0] = replace(rows[0], grad_rms=math.inf, grad_finite=False)
        rows[1] = replace(rows[1], grad_rms=0.0)
        rows[2] = replace(rows[2], grad_rms=1.0)
    return Signals("predicted" if predicted else "measured", tuple(rows), seeds=1 if predicted else seeds)


def comparison(depth: int = 8, **more: int) -> Comparison:
    return compare(signals(depth, **more), signals(depth, predicted=True), {op: [op + 1] for op in range(depth - 1)})


def model(name: str = "net.py:Net", depth: int = 8) -> Measured:
    return name, comparison(depth), ("inputs inferred",)


@pytest.mark.parametrize(("length", "most"), [(1, 30), (2, 30), (30, 30), (31, 30), (100, 33), (121, 34), (7, 3)])
def test_named_blocks_are_few_and_hold_both_ends(length: int, most: int) -> None:
    chosen = ticks(length, most)
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    assert len(chosen) <= most
    steps = [after - before for before, after in pairwise(chosen)]
    assert all(step >= max(steps[:-1], default=0) for step in steps), "the last two are no closer than the others"
    assert ticks(0, 5) == []


def test_curves_hold_what_has_a_logarithm_and_say_what_has_none() -> None:
    found = curves("net", comparison())
    panel = found.gradient
    assert panel.measured[:4] == (None, None, 1.0, 1e-5)
    assert (panel.infinite, panel.zeros) == ((0,), (1,))
    assert panel.off == (0, 1, 2)
    assert found.rms.off == ()
    assert panel.bars[3] == pytest.approx((1e-5 / 10**0.1, 1e-5 * 10**0.1))
    assert panel.predicted[0] == pytest.approx(1e-8)
    band = panel.band[0]
    assert band is not None
    assert band[0] < 1e-8 < band[1]
    assert len(set(found.labels)) == len(found.labels)
    assert found.labels[7] == "7 e.layers7.mlp"


def test_axes_hold_every_point_bar_and_band_and_at_least_two_decades() -> None:
    found = curves("net", comparison())
    low, high = found.gradient.range
    assert low < -8 - 0.16
    assert high > 0
    level_low, level_high = found.rms.range
    assert level_high - level_low >= 2
    assert level_low < 0 < level_high
    assert curves("net", Comparison(Signals("measured", ()))).gradient.range == (-1.0, 1.0)


def test_facts_put_the_exponents_side_by_side() -> None:
    facts = " ".join(curves("net", comparison()).facts)
    assert "3 seeds, 8 blocks" in facts
    assert "gradient exponent -0.329 (predicted -2.303)" in facts
    assert "angle exponent -0.693 (predicted -0.693)" in facts
    alone = curves("net", Comparison(signals(8)))
    assert "predicted" not in " ".join(alone.facts)
    assert (alone.gradient.predicted, alone.gradient.off) == ((None,) * 8, ())


class Tags(HTMLParser):
    """Counts elements, and those that are open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in ("meta", "html"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


def test_a_page_has_a_section_for_each_model_and_needs_nothing_else() -> None:
    page = render_page([model("a.py:A", 8), model("b.py:B", 5)])
    tags = Tags(page)
    assert tags.open == []
    assert (tags.count["section"], tags.count["svg"], tags.count["table"]) == (2, 2, 2)
    assert tags.count["tr"] == 2 + 8 + 5
    assert tags.count["title"] == 1 + 8 + 5, "each block has its numbers under the pointer"
    for name, value in tags.attributes:
        assert name not in ("src", "href"), "nothing is fetched"
        assert "url(" not in (value or "")
    assert "://" not in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("hands back a gradient") == 3 + 3, "the surprises stand there in words"
    assert "inputs inferred" in page
    assert "<p>No trunk" in render_page([("empty", Comparison(Signals("measured", ())), ())])


def test_names_do_not_become_markup() -> None:
    page = render_page([model("a.py:build(x='<script>&')")])
    assert "<script" not in page
    assert "&lt;script&gt;&amp;" in page


def drawn(kind: str, *found: Measured) -> bytes:
    pytest.importorskip("matplotlib")
    return plotter(Path(f"out.{kind}"))(found)


def test_an_svg_holds_the_words_as_text() -> None:
    picture = drawn("svg", model("a.py:build(x='$1$')"), model("b.py:B"))
    words = " ".join(filter(None, (text.strip() for text in ElementTree.fromstring(picture).itertext())))
    for expected in (
        "a.py:build(x='$1$')",
        "b.py:B",
        "gradient exponent",
        "7 e.layers7.mlp",
        "measured 0",
        "not finite",
    ):
        assert expected in words
    assert "three standard deviations off" in words


def test_the_break_is_marked() -> None:
    """Of the predicted rows alone, for a table with NaN is not judged."""
    level = signals(8, predicted=True)
    found = curves("net", Comparison(replace(level, source="measured")))
    assert found.breaks is not None
    assert found.break_words == f"breaks at block {found.blocks[found.breaks].number} (linear)"
    assert found.break_words.encode() in drawn("svg", ("net", Comparison(level), ()))
    assert found.break_words in render_page([("net", Comparison(level), ())])


def test_a_png_of_more_models_is_higher() -> None:
    one, two = (
        struct.unpack(">II", drawn("png", *models)[16:24]) for models in ([model()], [model(), model("b.py:B")])
    )
    assert (two[0], two[1]) == (one[0], 2 * one[1])


@pytest.mark.parametrize("depth", [3, 30, 100, 400])
def test_names_of_blocks_do_not_overlap(depth: int) -> None:
    pytest.importorskip("matplotlib")
    from stablelint.report.plot.figure import draw

    figure = draw([curves("net", comparison(depth))])
    figure.draw_without_rendering()
    axes = figure.subfigs[0].axes[1]
    labels = axes.get_xticklabels()
    places = [axes.transData.transform((tick, 1.0))[0] for tick in axes.get_xticks()]
    height = labels[0].get_fontsize() * figure.dpi / 72
    turned = math.sin(math.radians(labels[0].get_rotation()))
    assert all((after - before) * turned > height for before, after in pairwise(places))


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_models_with_next_to_nothing_to_draw(kind: str, depth: int) -> None:
    rows = signals(8, predicted=True).rows[:depth]
    assert drawn(kind, ("net", Comparison(Signals("measured", rows)), ()))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("out.pdf", "must end in .png, .svg or .html"),
        ("out", "must end in"),
        ("missing/out.png", "there is no folder"),
        ("folder.html", "it is a folder"),
    ],
)
def test_what_cannot_be_drawn_is_said_before(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match=sentence):
        plotter(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"], "and nothing is left behind"
