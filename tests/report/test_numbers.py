"""Numbers read alike everywhere."""

from __future__ import annotations

import pytest

from stablelint.report.numbers import count, exponent, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.1e-4, "2.1e-04"),
        (0.7, "0.70"),
        (1.3e5, "1.3e+05"),
        (0.0123, "0.012"),
        (0.00999, "0.010"),
        (1.0, "1.0"),
        (9.96, "10"),
        (24, "24"),
        (343.4, "340"),
        (999.0, "1.0e+03"),
        (-0.5, "-0.50"),
        (0, "0"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (None, "?"),
    ],
)
def test_two_significant_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.3863, "-1.386"), (0.1917, "+0.192"), (-1e-9, "0.000"), (0.0, "0.000"), (12.0, "+12.000"), (None, "?")],
)
def test_an_exponent_has_its_sign(value, text):
    assert exponent(value) == text


def test_count():
    assert [count(amount, "note") for amount in (0, 1, 2)] == ["0 notes", "1 note", "2 notes"]
