"""What the probe's numbers say about the labels: ROC, thresholds, ranges per family, and the rules as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablelint.symptoms import SYMPTOMS

Row = dict[str, Any]

#: False alarms among the trainable networks that a threshold may cost.
ALLOWED = 1
FAULTY = ("broken", "fragile")

#: Thresholds read off this report, with their reasons in README.md; compare with those that the rules have.
PROPOSED: dict[tuple[str, str], float] = {}


@dataclass(frozen=True)
class Quantity:
    """One number of the probe: ``sign`` is -1 when small values are bad; ``grid`` are the thresholds to print.

    ``among`` leaves out of its AUC the networks with the opposite trouble, which other numbers are there for.
    """

    key: str
    sign: int
    grid: tuple[float, ...]
    among: Callable[[Row], bool] = lambda _: True

    def flags(self, row: Row, threshold: float) -> bool:
        """Whether the value lies on the bad side."""
        value = row.get(self.key)
        return value is not None and self.sign * value > self.sign * threshold


def decades(low: float, high: float, step: float = 0.5) -> tuple[float, ...]:
    """Powers of ten from 10**low to 10**high."""
    return tuple(10 ** (low + step * index) for index in range(round((high - low) / step) + 1))


def quiet(row: Row) -> bool:
    """Nothing is loud: no op moves the output by more than ten times its healthy size."""
    return bool(row["most"] < 10)


def loud(row: Row) -> bool:
    """Nothing is faint: the output hears every op."""
    return bool(row["least"] > 0.05)


QUANTITIES = (
    Quantity("least", -1, decades(-7, -2), quiet),
    Quantity("most", 1, decades(1, 6), loud),
    Quantity("discrimination", -1, decades(-6, -1), quiet),
    Quantity("sharpness", 1, decades(2, 12, 1), loud),
    Quantity("gradient_ratio", -1, decades(-7, -1, 1), quiet),
    Quantity("dead", 1, (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)),
    Quantity("saturated", 1, (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)),
    Quantity("open", -1, decades(-3, -1)),
    Quantity("samples_apart", -1, decades(-9, -1, 1)),
    Quantity("tokens_apart", -1, decades(-6, -1)),
    Quantity("peak", 1, (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)),
    Quantity("retention", -1, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)),
    Quantity("same_units", 1, (0.999, 0.99999, 0.999999)),
)


def report(rows: Sequence[Row]) -> None:
    """Print everything."""
    rows = [row for row in rows if "least" in row]
    labels = ("trainable", "fragile", "broken")
    print(", ".join(f"{sum(row['label'] == name for row in rows)} {name}" for name in labels))
    print("\n== each quantity: AUC, then per threshold broken / fragile / trainable on its bad side")
    for quantity in QUANTITIES:
        print(roc(quantity, rows))
    print("\n== per family and label: least, most, discrimination, and the number of settings that train")
    for line in families(rows):
        print(line)
    print("\n== the grey zone: least sensitivity from 1e-5 to 1e-2, by discrimination")
    for row in sorted(rows, key=lambda row: row["discrimination"] or 0.0):
        if row["least"] is not None and 1e-5 <= row["least"] < 1e-2:
            name = f"{row['family']}/{row['dose']}"
            numbers = f"least {row['least']:.1e}  discrimination {row['discrimination'] or 0:.1e}"
            print(f"{name:28s} {row['label']:9s} {numbers}  settings {row['settings']}")
    print("\n== least sensitivity against discrimination, broken/fragile/trainable")
    for line in plane(rows):
        print(line)
    for title, changes in (("as they are", {}), ("with the proposed thresholds", PROPOSED)):
        print(f"\n== the rules {title} (errors only)")
        for line in rules(rows, changes):
            print(line)


def auc(quantity: Quantity, rows: Iterable[Row], faulty: Sequence[str]) -> float:
    """Chance that a network of those labels looks worse than a trainable one, ties halved; NaN without a pair."""
    rows = [row for row in rows if row.get(quantity.key) is not None and quantity.among(row)]
    known = [(row["label"], quantity.sign * row[quantity.key]) for row in rows]
    bad = [value for name, value in known if name in faulty]
    good = [value for name, value in known if name == "trainable"]
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    return wins / (len(bad) * len(good)) if bad and good else math.nan


def counts(rows: Iterable[Row], chosen: Callable[[Row], bool]) -> tuple[int, int, int]:
    """Broken, fragile and trainable networks among those chosen."""
    found = [row["label"] for row in rows if chosen(row)]
    return found.count("broken"), found.count("fragile"), found.count("trainable")


def loosest(quantity: Quantity, rows: Sequence[Row]) -> float:
    """The threshold that flags most with at most :data:`ALLOWED` trainable networks on its bad side."""
    good = sorted(
        quantity.sign * row[quantity.key]
        for row in rows
        if row["label"] == "trainable" and row.get(quantity.key) is not None
    )
    return quantity.sign * good[-1 - ALLOWED] if len(good) > ALLOWED else math.nan


def roc(quantity: Quantity, rows: Sequence[Row]) -> str:
    """One quantity's lines."""
    known = [row for row in rows if row.get(quantity.key) is not None]
    side = "<" if quantity.sign < 0 else ">"
    total = "/".join(map(str, counts(known, lambda _: True)))
    areas = f"AUC {auc(quantity, known, ('broken',)):.3f}, fragile with broken {auc(quantity, known, FAULTY):.3f}"
    lines = [f"{quantity.key}: {areas}, over {total}"]
    limit = loosest(quantity, known)
    for threshold in (*quantity.grid, limit):
        caught = counts(known, lambda row, t=threshold: quantity.flags(row, t))  # type: ignore[misc]
        name = f"{threshold:.3g}" + (f"  <- loosest with {ALLOWED} false alarm" if threshold is limit else "")
        lines.append(f"    {side} {name:10s} {'/'.join(map(str, caught))}")
    return "\n".join(lines)


def families(rows: Sequence[Row]) -> Iterable[str]:
    """Ranges of the numbers by family and label."""
    for family in dict.fromkeys(row["family"] for row in rows):
        for name in ("trainable", "fragile", "broken"):
            members = [row for row in rows if row["family"] == family and row["label"] == name]
            if members:
                ranges = "  ".join(f"{key} {span(members, key):22s}" for key in ("least", "most", "discrimination"))
                doses = " ".join(f"{row['dose'].split('-', 1)[1]}({row['settings']})" for row in members)
                yield f"{family:17s} {name:9s} {ranges} {doses}"


def span(rows: Sequence[Row], key: str) -> str:
    """Smallest and largest value."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{min(values):.1e}..{max(values):.1e}" if values else "none"


def plane(rows: Sequence[Row]) -> Iterable[str]:
    """Counts over cells of the two quantities: is the grey zone of one decided by the other?"""
    across = (0.0, 1e-5, 1e-4, 1e-3, 10**-2.75, 10**-2.25, 1e-2, 1e-1, math.inf)
    down = (0.0, 1e-7, 1e-6, 1e-5, 10**-4.5, 1e-4, 1e-3, 1e-2, math.inf)
    header = "  ".join(f"<{high:<7.1e}" for high in across[1:])
    yield f"{'least':>10s}   discrimination {header}"
    for low, high in itertools.pairwise(down):
        cells = []
        for left, right in itertools.pairwise(across):
            found = counts(
                rows,
                lambda row, a=low, b=high, c=left, d=right: (  # type: ignore[misc]
                    row["least"] is not None
                    and row["discrimination"] is not None
                    and a <= row["least"] < b
                    and c <= row["discrimination"] < d
                ),
            )
            cells.append("/".join(map(str, found)) if any(found) else ".")
        yield f"{'<':>3s}{high:<7.1e}                 " + "  ".join(f"{cell:8s}" for cell in cells)


def rules(rows: Sequence[Row], changes: Mapping[tuple[str, str], float]) -> Iterable[str]:
    """What the shipped rules say about these networks, some thresholds changed."""
    defaults = {rule.name: rule.thresholds for rule in SYMPTOMS}
    checks: dict[str, Callable[[Row], bool]] = {}
    for name, key, parameter, sign in (
        ("vanishing-gradient", "least", "error_below", -1),
        ("exploding-gradient", "most", "error_above", 1),
        ("dead-units", "dead", "error_above", 1),
        ("saturated-activation", "open", "error_below", -1),
        ("saturated-attention", "peak", "error_above", 1),
        ("similarity-collapse", "discrimination", "error_below", -1),
        ("similarity-collapse", "tokens_apart", "token_error_below", -1),
        ("identical-units", "same_units", "error_above", 1),
        ("gradient-decay-in-time", "retention", "error_below", -1),
    ):
        limit = changes.get((name, parameter), float(defaults[name][parameter]))
        quantity = Quantity(key, sign, ())
        checks[f"{name} ({key} {'<' if sign < 0 else '>'} {limit:.3g})"] = (
            lambda row, q=quantity, t=limit: q.flags(row, t)  # type: ignore[misc]
        )
    checks["non-finite"] = lambda row: row["finite"] == 0
    for name, check in checks.items():
        alone = [
            row for row in rows
            if row["label"] == "broken" and check(row) and sum(other(row) for other in checks.values()) == 1
        ]  # fmt: skip
        alarms = [f"{row['family']}/{row['dose']}" for row in rows if row["label"] == "trainable" and check(row)]
        found = "/".join(map(str, counts(rows, check)))
        yield f"{name:50s} {found:10s} only this one {len(alone):3d}  alarms: {' '.join(alarms) or 'none'}"
    found = "/".join(map(str, counts(rows, lambda row: any(check(row) for check in checks.values()))))
    missed = [
        f"{row['family']}/{row['dose']}" for row in rows
        if row["label"] == "broken" and not any(check(row) for check in checks.values())
    ]  # fmt: skip
    yield f"{'any of them':50s} {found}"
    yield "broken and not found: " + " ".join(missed)
