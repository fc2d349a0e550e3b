"""Rules, hits and signals by hand, for the tests of the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stablelint.finding import Finding, Hit, Level
from stablelint.graph import Graph
from stablelint.rule import Rule
from stablelint.signals import Signal, Signals
from stablelint.site import Site


def nothing(evidence: object) -> Iterator[Hit]:
    yield from ()


def cause(*predicts: str, level: Level = Level.WARNING, code: str = "SL101") -> Rule:
    return Rule(code, "some-cause", "a cause", nothing, Graph, predicts, level)


def symptom(name: str) -> Rule:
    return Rule(f"SL9{sum(map(ord, name)) % 100:02}", name, "a symptom", nothing, Signals)


def hit(line: int = 1, *span: int, file: str | None = "net.py", **more: object) -> Hit:
    return Hit(Site(f"block{line}", file, line if file else None), f"message {line}", span=span, **more)


def measured(*decades: float | None, **more: object) -> Signals:
    """Signals whose trunk holds one row per number: log10 of the gradient's rms that comes back to op 0, 1, ..."""
    rows = tuple(
        Signal(index, "linear", Site(), block=index, grad_rms=None if power is None else 10.0**power)
        for index, power in enumerate(decades)
    )
    return replace(Signals("measured", rows), **more)


FLAT = measured(0, 0, 0, 0, 0, 0, 0)
VANISHING = symptom("vanishing-gradient")
EXPLODING = symptom("exploding-gradient")
WHOLE = (0, 6)


def one(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding
