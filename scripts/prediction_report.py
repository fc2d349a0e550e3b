"""Tables over compared cases: per family and overall, the worst, and the bars that the prediction must clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, stdev

#: Gradients below this are zero: the logarithm of nothing.
FLOOR = -300.0
CLASSES = ("vanish", "healthy", "explode")


@dataclass
class Row:
    """One case: H predicted and measured (geometric mean and single draws), and how far the rest is off in decades.

    ``band`` is the stated interval of H. ``ops`` and ``parameters`` are median errors of gradient rms, ``forward``
    of values. ``zeros`` are parameters whose gradient is nothing but rounding, ``missed`` those of them that were
    predicted to have one. ``seconds`` are CPU seconds: of the prediction, and of one forward and backward pass.
    """

    name: str
    family: str
    predicted: float | None
    measured: float | None
    draws: list[float] = field(default_factory=list)
    band: tuple[float, float] | None = None
    ops: float = math.nan
    forward: float = math.nan
    parameters: float = math.nan
    zeros: int = 0
    missed: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    seconds: tuple[float, float] = (math.nan, math.nan)
    in_time: bool = False
    generated: bool = True
    size: int = 0

    @property
    def error(self) -> float:
        """|error of H| in decades."""
        assert self.predicted is not None
        assert self.measured is not None
        return abs(self.predicted - self.measured)

    @property
    def spread(self) -> float:
        """Standard deviation of the measured H over draws, in decades."""
        return stdev(self.draws) if len(self.draws) > 1 else math.nan

    @property
    def inside(self) -> bool | None:
        """Whether the measured H lies in the stated band."""
        return None if self.band is None or self.measured is None else self.band[0] <= self.measured <= self.band[1]

    @property
    def cost(self) -> float:
        """Seconds of the prediction over those of a forward and backward pass."""
        return self.seconds[0] / self.seconds[1] if self.seconds[1] > 0 else math.nan


def classify(h: float) -> str:
    """The class of a gradient ratio."""
    return CLASSES[0] if h < -3 else CLASSES[2] if h > 3 else CLASSES[1]


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation; ties share their mean rank."""

    def ranks(values: Sequence[float]) -> list[float]:
        order = sorted(values)
        return [(order.index(value) + len(order) - 1 - order[::-1].index(value)) / 2 for value in values]

    a, b = ranks(left), ranks(right)
    middle = (len(a) - 1) / 2
    spread = math.sqrt(sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))
    return sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)) / spread if spread else math.nan


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(max(math.ceil(share * len(ordered)) - 1, 0), len(ordered) - 1)] if ordered else math.nan


def mean(values: Sequence[float]) -> float:
    """NaN for nothing."""
    return sum(values) / len(values) if values else math.nan


def known(values: Sequence[float]) -> list[float]:
    """Without NaN."""
    return [value for value in values if not math.isnan(value)]


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows that have an H on both sides."""
    return [row for row in rows if row.predicted is not None and row.measured is not None]


def line(row: Row) -> str:
    """One case."""
    if row.predicted is None or row.measured is None:
        verdict = "no H: fewer than two blocks have a gradient"
    else:
        agree = classify(row.predicted) == classify(row.measured)
        verdict = f"{row.predicted:>+8.2f}{row.measured:>+8.2f}{row.spread:>6.2f}{row.error:>7.2f}  "
        verdict += f"{classify(row.measured) + ('' if agree else '!'):<9}"
        stated = "-" if row.band is None else f"{row.band[0]:+.2f}..{row.band[1]:+.2f}{'' if row.inside else '!'}"
        verdict += f"{stated:>16}"
    rest = f"{row.ops:>6.2f}{row.forward:>6.2f}{row.parameters:>6.2f}{row.seconds[0]:>7.2f}{row.cost:>6.2f}"
    unknown = " ".join(f"{name}:{count}" for name, count in sorted(row.unknown.items()))
    return f"{row.name:<34}{verdict}{rest}  {unknown}"


HEAD = (
    f"{'case':<34}{'H pred':>8}{'H meas':>8}{'+-':>6}{'error':>7}  {'class':<9}{'band':>16}"
    f"{'ops':>6}{'fwd':>6}{'par':>6}{'s':>7}{'cost':>6}  unknown ops"
)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Per family and overall."""
    yield (
        f"{'family':<18}{'n':>4}{'spearman':>10}{'median':>8}{'p90':>7}{'max':>7} {'worst':<30}{'class':>6}"
        f"{'band':>7}{'draws':>7}{'width':>7}{'ops':>7}{'par':>7}{'zeros':>11}{'cost':>6}"
    )
    families = dict.fromkeys(row.family for row in rows)
    for family in (*families, "generated", "zoo", "all"):
        chosen = [
            row for row in rows if family in (row.family, "all") or family == ("generated" if row.generated else "zoo")
        ]
        known_rows = compared(chosen)
        if known_rows:
            yield _summary(family, chosen, known_rows)


def _summary(name: str, rows: Sequence[Row], having: Sequence[Row]) -> str:
    errors = [row.error for row in having]
    worst = max(having, key=lambda row: row.error)
    predicted, measured = _pairs(having)
    right = mean([float(classify(p) == classify(m)) for p, m in zip(predicted, measured, strict=True)])
    inside = coverage(having)
    draws = coverage_of_draws(having)
    widths = known([row.band[1] - row.band[0] for row in having if row.band is not None])
    width = median(widths) if widths else math.nan
    zeros = sum(row.zeros for row in rows)
    return (
        f"{name:<18}{len(having):>4}{spearman(predicted, measured):>10.3f}{median(errors):>8.3f}"
        f"{quantile(errors, 0.9):>7.2f}{worst.error:>7.2f} {worst.name:<30}{right:>6.2f}"
        f"{_or_dash(inside, '.2f'):>7}{_or_dash(draws, '.2f'):>7}{_or_dash(width, '.2f'):>7}"
        f"{_median(row.ops for row in rows):>7.3f}{_median(row.parameters for row in rows):>7.3f}"
        f"{f'{zeros - sum(row.missed for row in rows)}/{zeros}':>11}{_median(row.cost for row in rows):>6.2f}"
    )


def _pairs(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [float(row.predicted or 0.0) for row in rows], [float(row.measured or 0.0) for row in rows]


def _median(values: Iterator[float]) -> float:
    found = known(list(values))
    return median(found) if found else math.nan


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def coverage(rows: Sequence[Row]) -> float:
    """The share of cases whose measured H lies in the stated band; NaN where none is stated."""
    return mean([float(row.inside) for row in rows if row.inside is not None])


def coverage_of_draws(rows: Sequence[Row]) -> float:
    """The same over single draws."""
    return mean([float(row.band[0] <= h <= row.band[1]) for row in rows if row.band is not None for h in row.draws])


def confusion(rows: Sequence[Row]) -> Iterator[str]:
    """Measured classes by predicted ones."""
    pairs = [(classify(m), classify(p)) for p, m in zip(*_pairs(compared(rows)), strict=True)]
    yield f"{'measured / predicted':<22}" + "".join(f"{name:>9}" for name in CLASSES)
    for truth in CLASSES:
        yield f"{truth:<22}" + "".join(f"{pairs.count((truth, guess)):>9}" for guess in CLASSES)


def worst(rows: Sequence[Row], count: int = 25) -> Iterator[str]:
    """The cases with the largest error of H."""
    yield HEAD
    for row in sorted(compared(rows), key=lambda row: -row.error)[:count]:
        yield line(row)


@dataclass(frozen=True)
class Bar:
    """One line of the acceptance list: what is measured, and what it must satisfy."""

    name: str
    figure: float
    passes: Callable[[float], bool]
    must: str
    form: str = ".3f"

    def __str__(self) -> str:
        verdict = "  -  " if math.isnan(self.figure) else "PASS" if self.passes(self.figure) else "FAIL"
        return f"{verdict:<6}{self.name:<58}{_or_dash(self.figure, self.form):>9}  ({self.must})"


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Every bar with its figure; "-" where these rows say nothing about it."""
    having = compared(rows)
    made = [row for row in having if row.generated]
    predicted, measured = _pairs(having)
    errors = [row.error for row in having]
    right = mean([float(classify(p) == classify(m)) for p, m in zip(predicted, measured, strict=True)])
    long = [row.error for row in having if row.in_time and row.name.endswith("T64")]
    slow = [row.cost for row in rows if not row.generated and row.seconds[1] > 0.2]
    largest = max((row.seconds[0] for row in rows if row.size < 500_000_000), default=math.nan)
    vanishing = sum((row.measured or 0.0) < -3 for row in made)
    exploding = sum((row.measured or 0.0) > 3 for row in made)
    return [
        Bar("generated variants", len(made), lambda n: n >= 80, "at least 80", ".0f"),
        Bar("of them vanishing by measurement", vanishing, lambda n: n >= 30, "at least 30", ".0f"),
        Bar("of them exploding by measurement", exploding, lambda n: n >= 30, "at least 30", ".0f"),
        Bar("Spearman of H", spearman(predicted, measured), lambda r: r >= 0.98, "at least 0.98"),
        Bar("median error of H, decades", median(errors) if errors else math.nan, lambda e: e <= 0.05, "at most 0.05"),
        Bar("90th percentile of the error", quantile(errors, 0.9), lambda e: e <= 0.25, "at most 0.25"),
        Bar("right class", right, lambda share: share >= 0.98, "at least 0.98"),
        Bar("measured H inside the band", coverage(having), lambda c: 0.85 <= c <= 0.97, "0.85 to 0.97"),
        Bar("worst RNN, LSTM or GRU at T=64", max(long, default=math.nan), lambda e: e <= 1, "within 1 decade", ".2f"),
        Bar(
            "median cost over zoo models above 0.2 s, of a pass", median(slow) if slow else math.nan,
            lambda c: c <= 0.5, "at most 0.5", ".2f",
        ),
        Bar("slowest prediction below 500 M parameters, s", largest, lambda s: s <= 3, "at most 3", ".2f"),
    ]  # fmt: skip
