"""The ``@rule`` decorator: a short pure function over one kind of evidence becomes a rule."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stablelint.finding import Hit, Level

Threshold = bool | int | float | str


@dataclass(frozen=True)
class Rule:
    """One rule: its words, its thresholds and its check.

    ``evidence`` is the type of the first parameter (``Graph`` for causes, ``Signals`` for symptoms). The
    keyword-only parameters of the check are its thresholds: their names, types and defaults are the
    configuration schema. ``level`` is what a hit deserves when the symptom that it predicts is not there:
    a warning for structure that is wrong in itself, a note for what only matters through its consequence. ``deep``
    says that the evidence is there with ``--deep`` only.
    """

    code: str
    name: str
    summary: str
    check: Callable[..., Iterator[Hit]]
    evidence: type
    predicts: tuple[str, ...] = ()
    level: Level = Level.WARNING
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    deep: bool = False

    @property
    def family(self) -> str:
        """The code without its last two digits: ``SL4`` for ``SL401``."""
        return self.code[:-2]

    def hits(self, evidence: object, settings: Mapping[str, Threshold] | None = None) -> list[Hit]:
        """Run the check on ``evidence`` with ``settings`` over the defaults of the thresholds."""
        return list(self.check(evidence, **(settings or {})))


def rule(
    code: str,
    summary: str,
    predicts: str | tuple[str, ...] = (),
    level: Level = Level.WARNING,
    deep: bool = False,
) -> Callable[[Callable[..., Iterator[Hit]]], Rule]:
    """Make a rule of a generator function; its name, its evidence and its thresholds are read off the signature."""

    def decorate(check: Callable[..., Iterator[Hit]]) -> Rule:
        hints = typing.get_type_hints(check)
        evidence, *rest = inspect.signature(check).parameters.values()
        thresholds: dict[str, Any] = {parameter.name: parameter.default for parameter in rest}
        return Rule(
            code=code,
            name=check.__name__.replace("_", "-"),
            summary=summary,
            check=check,
            evidence=hints[evidence.name],
            predicts=(predicts,) if isinstance(predicts, str) else predicts,
            level=level,
            thresholds=thresholds,
            deep=deep,
        )

    return decorate
