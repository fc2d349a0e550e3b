"""Normalisations, also those that nobody calls by name."""

from __future__ import annotations

import pytest
from graph_building import Draft

from stablelint.graph.families import NORMS


@pytest.mark.parametrize("name", sorted(NORMS))
def test_a_library_norm_normalises_its_first_operand(name):
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    normed = draft.op(name, x, draft.weight(8))
    norm = draft.graph().norms[normed]
    assert (norm.source.index, norm.handwritten, norm.frozen) == (x, False, False)


def layer_norm(draft: Draft, x: int) -> int:
    spread = draft.op("sqrt", draft.op("add", draft.reduce("var", x), other=1e-5))
    return draft.op("div", draft.op("sub", x, draft.reduce("mean", x)), spread)


def layer_norm_of_moments(draft: Draft, x: int) -> int:
    centred = draft.op("sub", x, draft.reduce("mean", x))
    power = draft.reduce("mean", draft.op("mul", centred, centred))
    return draft.op("mul", centred, draft.op("rsqrt", draft.op("add", power, other=1e-5)))


def by_std(draft: Draft, x: int) -> int:
    return draft.op("div", x, draft.op("add", draft.reduce("std", x), other=1e-5))


def by_norm(draft: Draft, x: int) -> int:
    return draft.op("div", x, draft.op("clamp", draft.reduce("norm", x), min=1e-12))


def rms(draft: Draft, x: int) -> int:
    power = draft.op("add", draft.reduce("mean", draft.op("pow", x, other=2)), other=1e-6)
    return draft.op("mul", x, draft.op("rsqrt", power))


def rms_reversed(draft: Draft, x: int) -> int:
    power = draft.op("add", draft.reduce("mean", draft.op("pow", x, other=2)), other=1e-6)
    return draft.op("mul", draft.op("div", draft.op("sqrt", power), other=1, reversed=True), x)


def rms_by_power(draft: Draft, x: int) -> int:
    power = draft.reduce("mean", draft.op("square", x))
    return draft.op("mul", x, draft.op("pow", power, other=-0.5))


@pytest.mark.parametrize(
    "spelling",
    [layer_norm, layer_norm_of_moments, by_std, by_norm, rms, rms_reversed, rms_by_power],
)
def test_a_value_divided_by_its_own_size_is_a_norm_of_that_value(spelling):
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    normed = spelling(draft, x)
    norms = draft.graph().norms
    assert list(norms) == [normed]
    assert (norms[normed].source.index, norms[normed].handwritten, norms[normed].frozen) == (x, True, False)


def squeeze_excite(draft: Draft, x: int) -> int:
    pooled = draft.reduce("mean", x)
    return draft.op("mul", x, draft.op("sigmoid", draft.linear(pooled)))


def bare_gate(draft: Draft, x: int) -> int:
    return draft.op("mul", x, draft.reduce("mean", x))


def times_its_own_size(draft: Draft, x: int) -> int:
    return draft.op("mul", x, draft.op("sqrt", draft.reduce("mean", draft.op("pow", x, other=2))))


def times_half_its_size(draft: Draft, x: int) -> int:
    return draft.op("mul", x, draft.op("div", draft.reduce("std", x), other=2.0))


def times_its_square_root(draft: Draft, x: int) -> int:
    return draft.op("mul", x, draft.op("pow", draft.reduce("var", x), other=0.5))


def softmax_by_hand(draft: Draft, x: int) -> int:
    powers = draft.op("exp", x)
    return draft.op("div", powers, draft.reduce("sum", powers))


def stable_softmax_by_hand(draft: Draft, x: int) -> int:
    powers = draft.op("exp", draft.op("sub", x, draft.reduce("amax", x)))
    return draft.op("div", powers, draft.reduce("sum", powers))


def size_of_another_value(draft: Draft, x: int) -> int:
    return draft.op("div", x, draft.reduce("std", draft.linear(x)))


def masked_mean(draft: Draft, x: int) -> int:
    mask = draft.op("to", draft.input(2, 8, dtype="int64"))
    return draft.op("div", draft.reduce("sum", draft.op("mul", x, mask)), draft.reduce("sum", mask))


def by_a_number(draft: Draft, x: int) -> int:
    return draft.op("div", x, other=2.0)


def by_a_plain_buffer(draft: Draft, x: int) -> int:
    return draft.op("mul", x, draft.op("rsqrt", draft.weight(8, buffer=True, name="table")))


@pytest.mark.parametrize(
    "spelling",
    [
        squeeze_excite,
        bare_gate,
        times_its_own_size,
        times_half_its_size,
        times_its_square_root,
        softmax_by_hand,
        stable_softmax_by_hand,
        size_of_another_value,
        masked_mean,
        by_a_number,
        by_a_plain_buffer,
    ],
)
def test_what_only_looks_like_a_norm_is_none(spelling):
    draft = Draft()
    spelling(draft, draft.linear(draft.input(2, 8)))
    assert draft.graph().norms == {}


def test_a_batch_norm_by_stored_statistics_is_frozen():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    variance = draft.weight(8, buffer=True, name="bn1.running_var")
    factor = draft.op("mul", draft.weight(8), draft.op("rsqrt", draft.op("add", variance, other=1e-5)))
    scaled = draft.op("mul", x, factor)
    shift = draft.op("mul", draft.weight(8, buffer=True, name="bn1.running_mean"), factor)
    draft.op("sub", scaled, shift)
    norms = draft.graph().norms
    assert list(norms) == [scaled]
    assert (norms[scaled].source.index, norms[scaled].frozen) == (x, True)


def test_a_masked_value_over_the_count_of_its_mask_is_no_norm():
    draft = Draft()
    x = draft.linear(draft.input(2, 8))
    mask = draft.op("to", draft.input(2, 8, dtype="int64"))
    draft.op("div", draft.op("mul", x, mask), draft.reduce("sum", mask))
    assert draft.graph().norms == {}
