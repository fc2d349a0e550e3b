"""Rules are found by code and name, and every rule has its page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stablelint import rulebook
from stablelint.errors import StablelintError, UsageError
from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals


@rule(code="SL401", summary="softmax over products", predicts="saturated-attention")
def unscaled_attention(signals: Signals, *, min_head_dim: int = 16) -> Iterator[Hit]:
    yield from ()


@rule(code="SL905", summary="attention on one token", level=Level.NOTE)
def saturated_attention(signals: Signals, *, above: float = 0.9, strict: bool = False) -> Iterator[Hit]:
    yield from ()


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(rulebook, "rules", lambda: (unscaled_attention, saturated_attention))


@pytest.mark.parametrize("text", ["SL401", "sl401", "unscaled-attention", "Unscaled_Attention", " SL401 "])
def test_find_takes_codes_and_names(two, text):
    assert rulebook.find(text) is unscaled_attention


def test_find_says_what_was_meant(two):
    with pytest.raises(UsageError, match=r'^no rule has the code or the name "unscaled-atention"; did you mean'):
        rulebook.find("unscaled-atention")
    with pytest.raises(UsageError, match=r'"nonsense"$'):
        rulebook.find("nonsense")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SL4", ["unscaled-attention"]),
        ("SL", ["unscaled-attention", "saturated-attention"]),
        ("all", ["unscaled-attention", "saturated-attention"]),
        ("saturated-attention", ["saturated-attention"]),
    ],
)
def test_matching_takes_beginnings_of_codes(two, text, names):
    assert [found.name for found in rulebook.matching(text)] == names


@pytest.mark.parametrize("text", ["SL7", "SL402", "S", "", "unscaled"])
def test_matching_refuses_what_selects_nothing(two, text):
    with pytest.raises(UsageError):
        rulebook.matching(text)


def test_catalogue_is_plain_data(two):
    first, second = rulebook.catalogue()
    assert (first["family"], first["level"]) == ("attention", "warning")
    assert first["thresholds"] == {"min_head_dim": 16}
    assert (second["kind"], second["level"]) == ("symptom", None)


def test_a_missing_page_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(rulebook, "__file__", str(tmp_path / "stablelint" / "rulebook.py"))
    with pytest.raises(StablelintError, match="the page of unscaled-attention is missing"):
        rulebook.page(unscaled_attention)


def test_the_checkouts_page_goes_before_the_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(rulebook, "__file__", str(tmp_path / "stablelint" / "rulebook.py"))
    shipped = tmp_path / "stablelint" / "rules" / "unscaled-attention.md"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("shipped")
    assert rulebook.page(unscaled_attention) == "shipped"
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "unscaled-attention.md").write_text("checkout")
    assert rulebook.page(unscaled_attention) == "checkout"
