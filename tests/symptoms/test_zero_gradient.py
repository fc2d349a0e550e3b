"""Parameters without gradient: cut off, multiplied by zero for good, or not used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from signal_rows import only, row, table

from stablelint.finding import Level
from stablelint.graph import Cut
from stablelint.signals import ParameterSignal, Signals
from stablelint.site import Site
from stablelint.symptoms.zero_gradient import zero_gradient

CUT = Cut(3, "detach", Site("body", "net.py", 3), ("a.weight", "a.bias"), 1056, 0.3, False, False, False)


def cut(**changes: object) -> Signals:
    parameters = [ParameterSignal(name, 1.0, None, readers=(1,)) for name in ("a.weight", "a.bias")]
    return table(row(1), cuts=(replace(CUT, **changes),), parameters=tuple(parameters))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Level.WARNING),
        ({"severs": True}, Level.ERROR),
        ({"share": 0.5}, Level.ERROR),
        ({"share": 0.01}, Level.NOTE),
        ({"share": 0.01, "severs": True}, Level.ERROR),
        ({"severs": True, "shields": True}, Level.WARNING),
        ({"severs": True, "aside": True}, Level.NOTE),
    ],
)
def test_how_bad_a_cut_is(changes, expected):
    hit = only(zero_gradient, cut(**changes))
    assert hit.level is expected
    assert hit.site.line == 3
    assert hit.span == (3,)


def test_the_share_that_makes_an_error_is_a_parameter():
    assert only(zero_gradient, cut(), error_share=0.3).level is Level.ERROR
    assert only(zero_gradient, cut(), note_share=0.4).level is Level.NOTE


def test_the_message_counts_what_was_not_reached_after_all():
    assert "no gradient for a.weight and 1 more (30% of all elements): detach" in only(zero_gradient, cut()).message
    reached = (ParameterSignal("a.weight", 1.0, 0.5, readers=(1,)), ParameterSignal("a.bias", 1.0, None, readers=(1,)))
    assert "no gradient for a.bias (" in only(zero_gradient, replace(cut(), parameters=reached)).message
    assert not zero_gradient.hits(replace(cut(), parameters=(reached[0], replace(reached[1], grad_rms=1.0))))


def product(first: ParameterSignal, second: ParameterSignal, back: float = 0.0) -> Signals:
    """``second @ (first @ x)``: rows 1 and 2; ``back`` is the gradient between them."""
    return table(row(1, grad_rms=back), row(2, grad_rms=1.0), parameters=(first, second))


def factor(name: str, rms: float, grad: float | None, reader: int, **more: object) -> ParameterSignal:
    return ParameterSignal(name, rms, grad, readers=(reader,), matrix=True, **more)


def test_two_zero_factors_of_one_product_stay_zero():
    signals = product(factor("down.weight", 0.0, 0.0, 1, sleepers=("up.weight",)), factor("up.weight", 0.0, 0.0, 2))
    hit = only(zero_gradient, signals)
    assert hit.level is Level.ERROR
    assert hit.site.line == 1
    assert "down.weight is exactly 0: its values are 0, and so is up.weight behind it" in hit.message


@pytest.mark.parametrize("grad", [0.3, 0.0])
def test_one_zero_factor_wakes_the_other_also_where_its_gradient_is_not_known(grad):
    signals = product(factor("down.weight", 0.2, 0.0, 1, sleepers=("up.weight",)), factor("up.weight", 0.0, grad, 2))
    assert not zero_gradient.hits(signals)


def test_an_exact_zero_that_was_measured_is_a_warning_and_a_predicted_one_a_note():
    signals = product(factor("score.weight", 0.2, 0.0, 1), factor("value.weight", 0.2, 0.5, 2))
    assert only(zero_gradient, signals).level is Level.WARNING
    assert only(zero_gradient, replace(signals, source="predicted")).level is Level.NOTE
    assert not zero_gradient.hits(replace(signals, source="predicted", doubts=("mystery",)))


def test_what_this_batch_passed_over_is_a_note_beside_what_is_stopped_for_good():
    idle = factor("expert.weight", 0.2, 0.0, 1, passed_over=True)
    hit = only(zero_gradient, product(idle, factor("other.weight", 0.2, 0.5, 2)))
    assert hit.level is Level.NOTE
    assert "data or chance picked others" in hit.message
    both = zero_gradient.hits(product(idle, factor("score.weight", 0.2, 0.0, 1)))
    assert {hit.level: hit.facts["parameters"] for hit in both} == {Level.WARNING: 1, Level.NOTE: 1}


def test_zero_data_on_this_batch_vectors_and_what_no_loss_reads_are_left_alone():
    idle = factor("recurrent.weight", 0.2, 0.0, 1)
    assert not zero_gradient.hits(product(idle, factor("w", 0.2, 0.5, 2), back=0.1))
    assert not zero_gradient.hits(product(replace(idle, matrix=False), factor("w", 0.2, 0.5, 2)))
    assert not zero_gradient.hits(product(replace(idle, grad_rms=None), factor("w", 0.2, 0.5, 2)))


def test_what_nothing_uses_is_one_note():
    signals = table(parameters=tuple(ParameterSignal(f"aux.{name}", 1.0, None) for name in ("weight", "bias")))
    hit = only(zero_gradient, signals)
    assert hit.level is Level.NOTE
    assert hit.site.module == "aux"
    assert "nothing uses aux.weight and 1 more in this forward pass" in hit.message
