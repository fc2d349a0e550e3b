"""Samples and tokens that the model cannot tell apart."""

from __future__ import annotations

import math

import pytest
from signal_rows import along_the_trunk, level, only, row, table

from stablelint.finding import Level
from stablelint.symptoms.similarity_collapse import similarity_collapse

NAN = math.nan


def samples(discrimination: float | None, similarity: list[float | None]):
    return table(*along_the_trunk(similarity=similarity).rows, discrimination=discrimination)


@pytest.mark.parametrize(
    ("discrimination", "expected"),
    [(None, None), (NAN, None), (0.5, None), (1e-3, None), (0.999e-3, Level.ERROR), (0.0, Level.ERROR)],
)
def test_samples_collapse_below_the_threshold(discrimination, expected):
    assert level(similarity_collapse, samples(discrimination, [0.1, 0.9])) is expected


def test_alike_samples_alone_are_no_collapse():
    assert level(similarity_collapse, samples(0.1, [1.0, 1.0])) is None


@pytest.mark.parametrize(
    ("similarity", "line"),
    [([0.1, 0.9995, 1.0], 2), ([0.1, 0.998, 0.5], 1), ([None, None], 1), ([None, 1.0], 2), ([NAN, 1.0], 2)],
)
def test_samples_collapse_where_they_first_look_alike(similarity, line):
    hit = only(similarity_collapse, samples(1e-5, similarity))
    assert hit.site.line == line
    assert hit.span == (1, len(similarity))


def test_a_model_without_a_trunk_has_no_place_to_collapse():
    assert level(similarity_collapse, table(row(1, trunk=False, similarity=1.0), discrimination=0.0)) is None


@pytest.mark.parametrize(
    ("between", "expected"), [(0.5, None), (1e-6, None), (2e-8, None), (0.5e-8, Level.ERROR), (0.0, Level.ERROR)]
)
def test_tokens_collapse_below_their_threshold(between, expected):
    assert level(similarity_collapse, along_the_trunk(token_similarity=[0.2, 1 - between])) is expected


def test_tokens_collapse_at_the_first_op_behind_the_most_different_where_they_are_one():
    hit = only(similarity_collapse, along_the_trunk(token_similarity=[1.0, 0.1, 0.9, 1.0, 1.0]))
    assert hit.site.line == 4
    assert hit.span == (2, 5)
    assert "0.90 at linear layer2" in hit.message


def test_tokens_that_differ_again_at_the_end_have_not_collapsed():
    assert level(similarity_collapse, along_the_trunk(token_similarity=[0.2, 1.0, 0.5])) is None


def test_tokens_that_never_differed_have_not_collapsed():
    assert level(similarity_collapse, along_the_trunk(token_similarity=[0.95, 1.0])) is None
    assert level(similarity_collapse, along_the_trunk(token_similarity=[0.85, 1.0])) is Level.ERROR


@pytest.mark.parametrize("values", [[], [1.0], [None, 1.0], [None, None], [0.2, NAN]])
def test_one_row_or_an_unknown_one_tells_nothing_of_tokens(values):
    assert level(similarity_collapse, along_the_trunk(token_similarity=values)) is None


def test_rows_without_tokens_are_passed_over():
    assert only(similarity_collapse, along_the_trunk(token_similarity=[None, 0.2, None, 1.0])).span == (2, 4)


def test_samples_and_tokens_are_reported_apart():
    rows = along_the_trunk(token_similarity=[0.2, 1.0], similarity=[0.1, 1.0]).rows
    assert len(similarity_collapse.hits(table(*rows, discrimination=0.0))) == 2


def test_the_thresholds_of_collapse_are_its_parameters():
    assert level(similarity_collapse, samples(0.1, [0.2]), error_below=0.2) is Level.ERROR
    tokens = along_the_trunk(token_similarity=[0.2, 0.99])
    assert level(similarity_collapse, tokens, token_error_below=0.1) is Level.ERROR
