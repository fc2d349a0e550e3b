"""Measured beside predicted: both tables on one scale, and the places where they begin to disagree.

Gradients are compared relative to one reference, the last op of the trunk: the prediction takes a loss whose gradient
there has unit variance, the probe may have measured the model's own. A site agrees while log10 of measured over
predicted stays within :data:`SURE` standard deviations, the root of the predicted variance of one network like this
and of the measured one between seeds. Where it does not, the disagreement mostly comes from the ops that the gradient
passed before (or the signal, for the rms); a place *begins* one if these do not explain it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeGuard

from stablelint.signals.signals import NINETY, Signal, Signals

Quantity = Literal["gradient", "rms"]
Feeds = Mapping[int, Sequence[int]]

_QUANTITIES: tuple[Quantity, ...] = ("gradient", "rms")

#: Standard deviations on either side within which a site agrees. One of ten normal values is farther off than
#: :data:`~stablelint.signals.signals.NINETY` of them and one of 370 than three; a model has hundreds of sites.
SURE = 3.0
#: Sizes that float32 holds: a gradient below them is measured as 0 and one above as infinite.
LEAST, LARGEST = 1.2e-38, 3.4e38
#: Activations of this size are masks.
MASK = 1e30
#: The share of the largest gradient that is rounding where it should be 0 (a few steps of float32).
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Block:
    """What leaves one block: the measured signal, and what was predicted in the scale of the measurement.

    ``spread`` is the predicted standard deviation of ``gradient`` in decades; None stands for what is not predicted.
    ``off`` names what was measured outside of the band of its prediction.
    """

    number: int
    signal: Signal
    gradient: float | None = None
    rms: float | None = None
    spread: float | None = None
    off: tuple[Quantity, ...] = ()

    @property
    def band(self) -> tuple[float, float] | None:
        """Where nine out of ten networks like this one have their gradient."""
        if not _sized(self.gradient) or self.spread is None:
            return None
        return _around(self.gradient, NINETY * self.spread)


@dataclass(frozen=True, slots=True)
class Surprise:
    """A place at which measurement and prediction begin to disagree on ``quantity``, per element.

    - ``signal``: the row that has the numbers: the op's output, or the gradient that arrives there.
    - ``cause``: the op that makes them: itself for the rms, else the one that hands the gradient back to it.
    - ``low``, ``high``: the band around the predicted number that the measured one left.
    - ``guessed``: that the prediction has no rule for ``cause``.
    - ``places``: how many sites of the same line begin one in the same direction.
    """

    quantity: Quantity
    signal: Signal
    cause: Signal
    measured: float
    predicted: float
    low: float
    high: float
    guessed: bool = False
    places: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """One site in both tables: ``predicted`` in the scale of ``measured``, ``width`` half of its band in decades."""

    signal: Signal
    measured: float
    predicted: float
    width: float

    @property
    def decades(self) -> float:
        """log10 of measured over predicted, infinite where one of them is 0 or infinite in float32."""
        measured, predicted = _log(self.measured), _log(self.predicted)
        return 0.0 if measured == predicted else measured - predicted

    @property
    def off(self) -> bool:
        """Whether the measured number lies outside of the band."""
        return abs(self.decades) > self.width

    def explains(self, later: Gap) -> bool:
        """Whether a disagreement that has been met before accounts for that at a ``later`` site."""
        if not self.off or (self.decades > 0) != (later.decades > 0):
            return False
        return math.isinf(self.decades) or abs(later.decades) - abs(self.decades) <= later.width


@dataclass(frozen=True)
class Comparison:
    """The measured signals of a model, and the predicted ones of the same graph unless the prediction failed."""

    measured: Signals
    predicted: Signals | None = None
    surprises: tuple[Surprise, ...] = ()

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the measured trunk, from input to output."""
        if self.predicted is None:
            return tuple(Block(number, signal) for number, signal in self.measured.blocks())
        rows = self.predicted.by_op
        factor = scale(self.measured, self.predicted)
        gaps = {quantity: _gaps(self.measured, self.predicted, quantity) for quantity in _QUANTITIES}
        found = []
        for number, signal in self.measured.blocks():
            off = tuple(name for name, each in gaps.items() if signal.op in each and each[signal.op].off)
            row = rows.get(signal.op)
            if row is None:
                found.append(Block(number, signal))
                continue
            gradient = None if row.grad_rms is None or factor is None else row.grad_rms * factor
            found.append(Block(number, signal, gradient, row.rms, row.grad_spread, off))
        return tuple(found)


def compare(measured: Signals, predicted: Signals | None, feeds: Feeds) -> Comparison:
    """Both tables and their surprises; ``feeds`` names the ops of the graph that read the output of each op."""
    if predicted is None:
        return Comparison(measured)
    reads: dict[int, list[int]] = {}
    for op, readers in feeds.items():
        for reader in readers:
            reads.setdefault(reader, []).append(op)
    found: list[Surprise] = []
    for quantity, came_from in zip(_QUANTITIES, (feeds, reads), strict=True):
        gaps = _gaps(measured, predicted, quantity)
        for op in _begun(gaps, came_from, back=quantity == "gradient"):
            direct = [other for other in came_from.get(op, ()) if other in measured.by_op]
            cause = measured.by_op[direct[0]] if quantity == "gradient" and len(direct) == 1 else gaps[op].signal
            found.append(_surprise(quantity, gaps[op], cause, guessed=cause.name in predicted.doubts))
    return Comparison(measured, predicted, tuple(_merged(found)))


def reference(measured: Signals, predicted: Signals) -> tuple[Signal, Signal] | None:
    """The last op of the trunk that has a gradient in both tables: its measured and its predicted row.

    Ops behind the model's head have no sensitivity: the gradient there is that of a loss and not of the network.
    """
    rows = predicted.by_op
    both = [(row, rows[row.op]) for row in measured.trunk if row.op in rows]
    known = [pair for pair in both if all(_sized(row.grad_rms) for row in pair)]
    heard = [pair for pair in known if all(row.sensitivity is not None for row in pair)]
    return next(reversed(heard or known), None)


def scale(measured: Signals, predicted: Signals) -> float | None:
    """The factor from predicted gradients to measured ones: their ratio at the reference."""
    found = reference(measured, predicted)
    if found is None or not _sized(found[0].grad_rms) or not _sized(found[1].grad_rms):
        return None
    return found[0].grad_rms / found[1].grad_rms


def _gaps(measured: Signals, predicted: Signals, quantity: Quantity) -> dict[int, Gap]:
    """The sites up to the reference that have ``quantity`` in both tables, by op; no gradient without a reference."""
    last, factor = reference(measured, predicted), scale(measured, predicted)
    back = quantity == "gradient"
    if back and factor is None:
        return {}
    noise = ROUNDING * max((row.grad_rms for row in measured.trunk if _sized(row.grad_rms)), default=0.0)
    sure = _grad_spread if back else _rms_spread(predicted)
    found: dict[int, Gap] = {}
    for row in measured.rows:
        other = predicted.by_op.get(row.op)
        if other is None or (last is not None and row.op > last[0].op):
            continue
        mine, theirs, spread = _value(row, quantity), _value(other, quantity), sure(other)
        if mine is None or theirs is None or spread is None:
            continue
        if back:
            theirs *= factor or 1.0
            mine = 0.0 if theirs < LEAST and mine < noise else mine
        elif max(mine, theirs) > MASK:
            continue
        between = (row.grad_spread if back else row.rms_spread) or 0.0
        found[row.op] = Gap(row, mine, theirs, SURE * math.hypot(spread, between))
    return found


def _begun(gaps: Mapping[int, Gap], came_from: Feeds, *, back: bool) -> Iterator[int]:
    """The ops, in the order of the way, that disagree and that nothing explains which the way passed before."""
    for op in sorted((op for op, gap in gaps.items() if gap.off), reverse=back):
        if not any(gaps[other].explains(gaps[op]) for other in _known(op, came_from, gaps)):
            yield op


def _known(op: int, came_from: Feeds, gaps: Mapping[int, Gap]) -> Iterator[int]:
    """The nearest ops with both numbers, through those of which one table knows nothing."""
    waiting, seen = list(came_from.get(op, ())), set[int]()
    while waiting:
        other = waiting.pop()
        if other in seen:
            continue
        seen.add(other)
        if other in gaps:
            yield other
        else:
            waiting += came_from.get(other, ())


def _surprise(quantity: Quantity, gap: Gap, cause: Signal, *, guessed: bool) -> Surprise:
    low, high = _around(gap.predicted, gap.width)
    return Surprise(quantity, gap.signal, cause, gap.measured, gap.predicted, low, high, guessed)


def _merged(found: Sequence[Surprise]) -> Iterator[Surprise]:
    """One of those that begin at the same line in the same direction, as in repeated blocks: the first on the way."""
    groups: dict[tuple[object, ...], list[Surprise]] = {}
    for each in found:
        where = each.cause.site.line_key if each.cause.site.file else each.cause.op
        groups.setdefault((each.quantity, where, each.cause.name, each.measured > each.predicted), []).append(each)
    for first, *others in groups.values():
        yield replace(first, places=1 + len(others))


def _grad_spread(row: Signal) -> float | None:
    return row.grad_spread


def _rms_spread(predicted: Signals) -> Callable[[Signal], float | None]:
    """How sure a predicted rms is, which the tables do not say: as sure as the gradient over the same layers.

    A chain of random weights spreads what passes it forward as much as what passes it back. The gradient's variance at
    an op is that of the layers behind it; what the first op has more than that is of the layers in front.
    """
    known = [row.grad_spread for row in predicted.trunk if row.grad_spread is not None]
    if not known:
        return lambda _: None
    most, least = max(known), min(known)

    def spread(row: Signal) -> float:
        behind = least if row.grad_spread is None else min(max(row.grad_spread, least), most)
        return math.sqrt(most**2 - behind**2 + least**2)

    return spread


def _value(row: Signal, quantity: Quantity) -> float | None:
    value, finite = (row.grad_rms, row.grad_finite) if quantity == "gradient" else (row.rms, row.finite)
    return value if finite or value is None else math.inf


def _log(size: float) -> float:
    if size < LEAST:
        return -math.inf
    return math.log10(size) if size <= LARGEST else math.inf


def _around(centre: float, decades: float) -> tuple[float, float]:
    """``centre`` down and up by ``decades``."""
    factor = 10 ** min(decades, 300.0)
    return centre / factor, centre * factor


def _sized(value: float | None) -> TypeGuard[float]:
    """Whether a gradient has a logarithm."""
    return value is not None and 0 < value < math.inf
