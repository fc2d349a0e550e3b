"""What the marker and a call may set: names, meaning and checks, once for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stablelint.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one assertion; None is what was not set.

    ``probe``: measure real gradients instead of only reading the graph. ``fail_on``: the level that fails the
    test. ``select`` and ``ignore``: codes, names or families of rules. ``seeds``: how often the probe measures.
    ``gradient_ratio``: lower and upper bound for the gradient rms of the first block over that of the last.
    ``dead``: the largest share of dead units that any layer may have.
    """

    probe: bool | None = None
    fail_on: str | None = None
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    seeds: int | None = None
    gradient_ratio: tuple[float, float] | None = None
    dead: float | None = None

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from ``values``; raises UsageError with one sentence for a wrong name or value."""
        for name in values:
            if name not in _READERS:
                raise UsageError(f'it has no setting "{name}"{did_you_mean(name, _READERS)}')
        return cls(**{name: _READERS[name](name, value) for name, value in values.items() if value is not None})

    def over(self, other: Settings) -> Settings:
        """These settings where they are set, else those of ``other``."""
        mine = {name: value for name in _READERS if (value := getattr(self, name)) is not None}
        return replace(other, **mine)

    def require_probe(self) -> None:
        """Raise UsageError for bounds on what would not be measured."""
        if self.probe is False and (self.gradient_ratio or self.dead is not None):
            raise UsageError("gradient_ratio and dead are bounds for what the probe measures, and probe is False")


def _probe(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is True or False, not {value!r}")
    return value


def _level(name: str, value: object) -> str:
    if value not in ("error", "warning"):
        raise UsageError(f'{name} is "error" or "warning", not {value!r}')
    return str(value)


def _rules(name: str, value: object) -> tuple[str, ...]:
    rules = (value,) if isinstance(value, str) else value
    if not isinstance(rules, list | tuple | set | frozenset) or not all(isinstance(rule, str) for rule in rules):
        raise UsageError(f"{name} is a code or name of a rule or a list of them, not {value!r}")
    from stablelint import rulebook

    for rule in rules:
        rulebook.matching(rule)
    return tuple(rules)


def _seeds(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} is a whole number from 1, not {value!r}")
    return value


def _bounds(name: str, value: object) -> tuple[float, float]:
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        low, high = map(float, value)
        if 0 <= low < high:
            return low, high
    raise UsageError(f"{name} is a pair (low, high) with 0 <= low < high, not {value!r}")


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{name} is a share from 0 to 1, not {value!r}")
    return float(value)


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "probe": _probe,
    "fail_on": _level,
    "select": _rules,
    "ignore": _rules,
    "seeds": _seeds,
    "gradient_ratio": _bounds,
    "dead": _share,
}
