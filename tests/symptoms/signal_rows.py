"""Tables of signals written by hand, and the levels that a symptom gives to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stablelint.finding import Hit, Level
from stablelint.rule import Rule
from stablelint.signals import Signal, Signals
from stablelint.site import Site


def row(op: int, name: str = "linear", *, trunk: bool = True, **values: Any) -> Signal:
    """The signal at one op on line ``op`` of ``net.py``; on the trunk it is a block of its own."""
    site = Site(f"layer{op}", "net.py", op)
    return Signal(op, name, site, **{"block": op if trunk else None, **values})


def table(*rows: Signal, **more: Any) -> Signals:
    return replace(Signals("measured", rows), **more)


def along_the_trunk(**columns: list[float | None]) -> Signals:
    """One row per number of the columns, which are as long as each other."""
    names = list(columns)
    return table(
        *(
            row(op, **dict(zip(names, values, strict=True)))
            for op, values in enumerate(zip(*columns.values(), strict=True), start=1)
        )
    )


def only(rule: Rule, signals: Signals, **settings: Any) -> Hit:
    (hit,) = rule.hits(signals, settings)
    return hit


def level(rule: Rule, signals: Signals, **settings: Any) -> Level | None:
    """The level of the one hit, None if the symptom is not there."""
    hits = rule.hits(signals, settings)
    assert len(hits) <= 1
    return hits[0].level if hits else None
