"""``--what-if "depth=96"``: what is asked, and the values of the sweep. Words only; nothing is built here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stablelint.errors import TargetError, UsageError

#: Values of one sweep: each is a model that is built and traced.
MOST_POINTS = 8
MOST_GIVEN = 32

_FORM = re.compile(r"(?P<argument>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*=\s*(?P<values>.*)", re.DOTALL)
_RANGE = re.compile(r"(.*[^.])\.\.([^.].*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """An argument, or a field of a configuration, and the integers that it shall have.

    ``form`` says what ``given`` holds: the end of a sweep ("to"), its two ends ("range"), or all values ("list").
    """

    argument: str
    form: Literal["to", "range", "list"]
    given: tuple[int, ...]

    def values(self, present: int | None) -> tuple[int, ...]:
        """The values of the sweep; raises TargetError when it has to start from a present value that is not known."""
        if self.form == "list":
            return self.given
        if self.form == "range":
            return geometric(*self.given)
        if present is None:
            raise TargetError(
                f"{self.argument} has no value to start from: write --what-if {self.argument}=LOW..{self.given[0]}"
            )
        return geometric(present, self.given[0])


def parse(texts: Sequence[str]) -> tuple[Question, ...]:
    """The questions of a command line, in its order; raises UsageError with one sentence."""
    return tuple(dict.fromkeys(_question(text) for text in texts))


def geometric(start: int, end: int) -> tuple[int, ...]:
    """From ``start`` to ``end``, both included, each about twice or half the one before.

    A wider range than MOST_POINTS such steps has larger ones. Growth per block shows over doublings: what is lost in
    24 layers is lost twice in 48. Zero and negative numbers have no ratio: the sweep then begins with the number
    itself and goes on from 1.
    """
    if start == end:
        return (start,)
    if start > end:
        return geometric(end, start)[::-1]
    if end < 1:
        return (start, end)
    if start < 1:
        return (start, *geometric(1, end))
    steps = min(max(round(math.log2(end / start)), 1), MOST_POINTS - 1)
    inner = (round(start * (end / start) ** (step / steps)) for step in range(1, steps))
    return tuple(dict.fromkeys((start, *inner, end)))


def _question(text: str) -> Question:
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise UsageError(_not_understood(text))
    argument, values = found["argument"], found["values"]
    ends = _RANGE.fullmatch(values)
    if ends is not None:
        return Question(argument, "range", (_integer(ends[1], text), _integer(ends[2], text)))
    given = tuple(dict.fromkeys(_integer(value, text) for value in values.split(",")))
    if len(given) > MOST_GIVEN:
        raise UsageError(f"--what-if {argument}: {len(given)} values are too many, at most {MOST_GIVEN} are predicted")
    return Question(argument, "list" if "," in values else "to", given)


def _integer(word: str, text: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise UsageError(_not_understood(text)) from None


def _not_understood(text: str) -> str:
    return f"--what-if {text!r} is not understood: write depth=96, depth=12,24,48 or depth=12..96, with integers"
