"""What ``--deep`` measures, judged on tables written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from signal_rows import level, only, row, table

from stablelint.finding import Level
from stablelint.judge import judge
from stablelint.rule import Rule
from stablelint.signals import Deep, Fit, HalfRun, Learning, Modes, Precision, Signals, Trigger
from stablelint.site import Site
from stablelint.symptoms import SYMPTOMS
from stablelint.symptoms.batch_dependence import batch_dependence
from stablelint.symptoms.half_precision_range import half_precision_range
from stablelint.symptoms.learning_rate_fragility import learning_rate_fragility
from stablelint.symptoms.non_finite_on_unusual_input import non_finite_on_unusual_input

SITE = Site("layer", "net.py", 7)


def deep(**parts: Any) -> Signals:
    return table(row(1, sensitivity=1.0), row(2, sensitivity=1.0), deep=Deep(**parts))


def losses(*last: float, own: bool = False) -> Signals:
    fits = tuple(Fit("Adam", 10.0**-index, 1.0, value) for index, value in enumerate(last, 1))
    return deep(learning=Learning(fits, 1.0, own))


@pytest.mark.parametrize("rule", [rule for rule in SYMPTOMS if rule.deep], ids=lambda rule: rule.name)
def test_without_deep_evidence_there_is_nothing_to_say(rule: Rule) -> None:
    assert rule.hits(table(row(1))) == []
    assert rule.hits(deep()) == []


def test_no_rate_is_an_error_up_to_two_of_five_a_warning_three_are_enough() -> None:
    assert level(learning_rate_fragility, losses(1.0, 1.1, float("inf"))) is Level.ERROR
    assert level(learning_rate_fragility, losses(1.0, 0.5, 1.0)) is Level.WARNING
    assert level(learning_rate_fragility, losses(0.5, 0.5, 1.0)) is None
    assert level(learning_rate_fragility, losses(0.5, 0.5, 1.0, 1.0, 1.0)) is Level.WARNING
    assert level(learning_rate_fragility, losses(0.5, 0.5, 1.0, 1.0, 1.0), warning_up_to=1) is None
    assert level(learning_rate_fragility, losses(0.5, 0.5, 0.5, 1.0, 1.0)) is None
    assert "only Adam 0.01 of 3 settings" in only(learning_rate_fragility, losses(1.0, 0.5, 1.0)).message
    two = only(learning_rate_fragility, losses(0.5, 0.5, 1.0, 1.0, 1.0)).message
    assert "only Adam 0.1 and Adam 0.01 of 5 settings" in two


def test_what_is_too_slow_counts_neither_way() -> None:
    def level_of(*last: float) -> Level | None:
        fits = tuple(Fit("Adam", 10.0**-index, 3.0, value) for index, value in enumerate(last, 1))
        return level(learning_rate_fragility, deep(learning=Learning(fits, 1.0)))

    assert level_of(2.9, 2.5, 2.0, 0.1, 5.0) is None
    assert level_of(2.9, 1.0, 1.0, 0.1, 5.0) is Level.WARNING
    assert level_of(2.9, 2.9, 2.9, 2.9, 2.9) is None
    assert level_of(2.9, 1.0, 1.0, 1.0, 5.0) is Level.ERROR


def test_a_models_own_loss_need_only_fall() -> None:
    assert level(learning_rate_fragility, losses(0.97, 0.97, own=True)) is None
    assert level(learning_rate_fragility, losses(0.97, 0.97)) is Level.ERROR
    assert level(learning_rate_fragility, losses(0.9, 0.9, 1.0, 1.0, 1.0, own=True)) is None
    assert level(learning_rate_fragility, losses(0.9, 1.0, 1.0, 1.0, 1.0, own=True)) is Level.WARNING
    assert level(learning_rate_fragility, losses(0.99, 1.0, own=True)) is Level.ERROR


def test_it_stands_where_the_samples_come_together() -> None:
    signals = losses(1.0, 1.0)
    assert only(learning_rate_fragility, signals).site.line == 2
    alike = (row(1, similarity=0.995), row(2, similarity=0.999))
    assert only(learning_rate_fragility, replace(signals, rows=alike)).site.line == 1


def test_a_gradient_that_vanishes_explains_that_nothing_is_learned() -> None:
    signals = replace(losses(1.0, 1.0), rows=(row(1, sensitivity=1e-9, grad_rms=1.0), row(2, sensitivity=1.0)))
    found = judge([], [(rule, hit) for rule in SYMPTOMS for hit in rule.hits(signals)], signals)
    assert [finding.name for finding in found] == ["vanishing-gradient"]


def trigger(name: str, **more: Any) -> Trigger:
    return Trigger(name, 3, "sqrt", SITE, "backward", "NaN", 0.0, 2.0, **more)


def test_one_op_is_one_finding_with_all_its_triggers() -> None:
    hit = only(non_finite_on_unusual_input, deep(triggers=(trigger("zeros"), trigger("a sample twice"))))
    assert hit.level is Level.WARNING
    assert "on zeros, a sample twice, from inputs between 0 and 2" in hit.message
    assert hit.site is SITE


def test_rare_or_masked_alone_is_a_note() -> None:
    for found in ((trigger("large", rare=True),), (trigger("zeros", masked=True),)):
        assert level(non_finite_on_unusual_input, deep(triggers=found)) is Level.NOTE
    both = (trigger("large", rare=True), trigger("zeros"))
    assert level(non_finite_on_unusual_input, deep(triggers=both)) is Level.WARNING


def half(**values: Any) -> Precision:
    return Precision(**{"op": 1, "name": "linear", "site": SITE, "largest": 1.0, **values})


def test_an_overflow_is_a_warning_and_stands_alone() -> None:
    rows = (half(largest=1e6, overflow=0.1), half(op=2, name="add", absorbed=True))
    hit = only(half_precision_range, deep(precision=rows))
    assert hit.level is Level.WARNING
    assert "linear reaches 1e+06" in hit.message


def test_what_is_lost_is_a_note() -> None:
    for rows, word in (
        ((half(grad_underflow=0.7),), "70% of the gradient"),
        ((half(underflow=0.9, grad_underflow=0.1),), "90% of the values"),
        ((half(name="add", absorbed=True),), "below 2^-9"),
    ):
        hit = only(half_precision_range, deep(precision=rows))
        assert hit.level is Level.NOTE
        assert word in hit.message
    assert level(half_precision_range, deep(precision=(half(grad_underflow=0.3),))) is None
    # beside the trunk nobody waits for it
    assert level(half_precision_range, deep(precision=(half(op=99, grad_underflow=0.9),))) is None


def test_a_bfloat16_gradient_that_points_elsewhere() -> None:
    signals = deep(precision=(half(),), half=HalfRun(0.1, 0.2))
    assert level(half_precision_range, signals) is Level.NOTE
    assert level(half_precision_range, signals, cosine_below=0.1) is None


def test_batches_of_one_and_modes() -> None:
    assert only(batch_dependence, deep(modes=Modes("expected more", SITE))).site is SITE
    assert level(batch_dependence, deep(modes=Modes(gap=1.5))) is Level.NOTE
    assert level(batch_dependence, deep(modes=Modes(gap=0.9, single_change=0.5))) is None
