"""From single passes to one table: geometric means over seeds, and what the output hears of each op."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import stdev
from typing import Literal

from stablelint.graph import Graph
from stablelint.graph.choices import held_back
from stablelint.graph.families import RECURRENT
from stablelint.probe.gauge import Reading
from stablelint.probe.kernel import Kernel
from stablelint.probe.known import Known
from stablelint.probe.margins import with_margins
from stablelint.signals import NonFinite, ParameterSignal, Signal, Signals
from stablelint.signals.parameters import Invariance


@dataclass
class Pass:
    """One instrumented forward and backward pass; ``known`` makes further ones cheap."""

    graph: Graph
    readings: dict[int, Reading]
    parameters: dict[str, tuple[float, float | None]]
    kernel: Kernel | None
    nonfinite: NonFinite | None
    awakened: int = 0
    known: Known | None = None
    invariances: Mapping[str, Invariance] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Whether no gradient at all reaches some op of the trunk."""
        return any(self.readings[index].grad_rms == 0 for index in self.graph.flow.trunk if index in self.readings)

    @property
    def finite(self) -> bool:
        """Whether no value and no gradient that was looked at overflowed or is NaN."""
        readings = self.readings.values()
        grads = (grad for _, grad in self.parameters.values() if grad is not None)
        return all(reading.finite and reading.grad_finite for reading in readings) and all(map(math.isfinite, grads))

    def faint(self, least: float) -> bool:
        """Whether the output hears less of some op of the trunk than ``least``."""
        return any(row.sensitivity is not None and row.sensitivity < least for row in aggregate([self]).trunk)


def aggregate(passes: Sequence[Pass]) -> Signals:
    """The signals of all passes over the graph of the first."""
    first = passes[0]
    flow = first.graph.flow
    rows = []
    for index in sorted(first.readings):
        if index not in flow.signal or _splits(first.graph, index):
            continue
        readings = [run.readings[index] for run in passes if index in run.readings]
        rows.append(_row(first.graph, index, readings))
    rows = _with_sensitivity(first, _carried_over(passes, rows) if len(passes) > 1 else rows)
    margins: dict[str, float] = {}
    if len(passes) > 1:
        rows, margins = with_margins(passes, rows, [_alone(run) for run in passes])
    parameters = []
    shapes = {parameter.name: parameter.shape for parameter in first.graph.parameters}
    heard, zero = {row.op for row in rows if row.grad_rms}, {row.op for row in rows if row.rms == 0}
    held = held_back(first.graph, heard, zero) if any(row.grad_rms == 0 for row in rows) else frozenset[int]()
    for name in first.parameters:
        values = [run.parameters[name] for run in passes if name in run.parameters]
        grads = [grad for _, grad in values if grad is not None]
        described = shapes.get(name, ())
        # an expert that no token of one batch chose is no parameter without gradient
        grad = _geometric([grad for grad in grads if grad] or grads)
        readers = first.graph.readers.get(name, ())
        parameters.append(
            ParameterSignal(
                name,
                _geometric([size for size, _ in values]) or 0.0,
                grad,
                readers=readers,
                sleepers=first.graph.sleepers.get(name, ()),
                matrix=len(described) > 1,
                invariance=first.invariances.get(name, ""),
                passed_over=grad == 0 and any(reader in held for reader in readers),
            )
        )
    kernels = [run.kernel for run in passes if run.kernel is not None]
    return Signals(
        source="measured",
        rows=tuple(rows),
        parameters=tuple(parameters),
        nonfinite=next((run.nonfinite for run in passes if run.nonfinite is not None), None),
        seeds=len(passes),
        discrimination=_geometric([kernel.discrimination for kernel in kernels]),
        sharpness=_geometric([kernel.sharpness for kernel in kernels]),
        awakened=first.awakened,
        cuts=first.graph.cuts,
        margins=margins,
    )


def _alone(run: Pass) -> Signals:
    """The trunk of one pass."""
    trunk = [index for index in run.graph.flow.trunk if index in run.readings and not _splits(run.graph, index)]
    rows = [_row(run.graph, index, [run.readings[index]]) for index in trunk]
    return Signals(source="measured", rows=tuple(_with_sensitivity(run, rows)))


def _splits(graph: Graph, index: int) -> bool:
    """Whether an op has several results: its reading is that of the first one, which has a row of its own."""
    op = graph.ops[index]
    return op.name not in RECURRENT and any("item" in user.attrs for user in graph.users(op))


def _row(graph: Graph, index: int, readings: list[Reading]) -> Signal:
    op = graph.ops[index]
    attends = op.name != "softmax" or any(attention.softmax is op for attention in graph.attentions())
    return Signal(
        op=index,
        name=op.name,
        site=op.site,
        block=graph.flow.block.get(index),
        place=graph.places.get(index, ""),
        mean=_mean([r.mean for r in readings]),
        rms=_geometric([r.rms for r in readings]),
        grad_rms=_geometric([r.grad_rms for r in readings if r.grad_rms is not None]),
        rms_spread=_spread([r.rms for r in readings]),
        grad_spread=_spread([r.grad_rms for r in readings if r.grad_rms is not None]),
        similarity=_mean([r.similarity for r in readings]),
        token_similarity=_mean([r.token_similarity for r in readings]),
        unit_similarity=_mean([_common(r) for r in readings]),
        dead=_mean([r.dead for r in readings]),
        saturated=_mean([r.saturated for r in readings]),
        retention=_geometric([r.retention for r in readings if r.retention is not None]),
        steps_heard=_mean([r.steps_heard for r in readings]),
        step_variation=_mean([r.step_variation for r in readings]),
        peak=_mean([r.peak for r in readings]) if attends else None,
        uniform_peak=_mean([r.uniform_peak for r in readings]) if attends else None,
        entropy=_mean([r.entropy for r in readings]) if attends else None,
        finite=all(r.finite for r in readings),
        grad_finite=all(r.grad_finite for r in readings),
    )


def _common(reading: Reading) -> float | None:
    """What units share in value and in gradient; the gradient is only looked at where the values agree."""
    if reading.unit_similarity is None or reading.grad_unit_similarity is None:
        return None
    return min(reading.unit_similarity, reading.grad_unit_similarity)


_Column = Literal["rms", "grad_rms", "similarity", "token_similarity"]


def _carried_over(passes: Sequence[Pass], rows: list[Signal]) -> list[Signal]:
    """Ops that only the first pass looked at, with what the draws changed at the next op of the trunk that all did.

    What lies between two ops of the trunk varies less from draw to draw than the way there.
    """
    groups: tuple[tuple[_Column, ...], ...] = (("rms", "grad_rms"), ("similarity",), ("token_similarity",))
    for columns in groups:
        rows = _like_next(rows, passes, columns)
    return rows


def _like_next(rows: list[Signal], passes: Sequence[Pass], columns: tuple[_Column, ...]) -> list[Signal]:
    """``rows`` with ``columns`` changed as those of the next op of the trunk of which all passes have the last one."""
    tables = [
        {index for index, reading in run.readings.items() if getattr(reading, columns[-1]) is not None}
        for run in passes
    ]
    to_all = set.intersection(*tables)
    known = {row.op: row for row in rows}
    seen = [index for index in passes[0].graph.flow.trunk if index in to_all and index in known]
    if not seen:
        return rows

    def changed(row: Signal) -> Signal:
        # what no draw knows, or all do, is as it should be
        lacking = [column for column in columns if _only_some(passes, row.op, column)]
        if not lacking:
            return row
        at = seen[min(bisect_left(seen, row.op), len(seen) - 1)]
        first, last = passes[0].readings[at], known[at]
        values = {
            column: _scaled(*(getattr(each, column) for each in (row, first, last)), apart="rms" not in column)
            for column in lacking
        }
        return replace(row, **values)  # type: ignore[arg-type]

    return [changed(row) for row in rows]


def _only_some(passes: Sequence[Pass], index: int, column: _Column) -> bool:
    """Whether the first pass, but not every other, has read ``column`` of an op."""
    read = [index in run.readings and getattr(run.readings[index], column) is not None for run in passes]
    return read[0] and not all(read)


def _scaled(value: float | None, before: float | None, after: float | None, *, apart: bool) -> float | None:
    """``value`` times ``after`` over ``before``, where there is such a factor; of what is ``apart``, 1 minus each."""
    if value is None or before is None or after is None:
        return value
    if apart:
        value, before, after = 1 - value, 1 - before, 1 - after
    if value > 0 and before > 0 and after > 0 and all(map(math.isfinite, (value, before, after))):
        value *= after / before
    return 1 - value if apart else value


def _with_sensitivity(first: Pass, rows: list[Signal]) -> list[Signal]:
    """Fill in what the output hears of each op, relative to the reference op's gradient."""
    graph, sizes = first.graph, {row.op: first.readings[row.op].numel for row in rows}
    trunk = [row for row in rows if row.block is not None and row.grad_rms]
    before = [row for row in trunk if graph.head is None or row.op <= graph.head]
    if not before:
        return rows
    reference = before[-1]
    filled = []
    for row in rows:
        # zeros that the output does listen to (a bias at its initial value) have no relative change
        # and the size of a loss behind the output says nothing about the network
        listened = (row.rms == 0 and bool(row.grad_rms)) or row.op > reference.op
        if row.rms is None or row.grad_rms is None or not reference.grad_rms or listened:
            filled.append(row)
            continue
        ratio = math.sqrt(sizes[row.op] / sizes[reference.op])
        filled.append(replace(row, sensitivity=row.rms * (row.grad_rms / reference.grad_rms) * ratio))
    return filled


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _spread(values: Sequence[float]) -> float | None:
    """Standard deviation of log10 of the values between seeds, in decades; None for fewer than two.

    Infinite where some are 0 and some are not, as behind a branch that is dropped at random.
    """
    known = [value for value in values if 0 < value < math.inf]
    if len(values) < 2 or not known:
        return None
    return stdev(map(math.log10, known)) if len(known) == len(values) else math.inf


def _geometric(values: Sequence[float]) -> float | None:
    """Geometric mean; 0 if any value is 0, infinite if any is not finite, None for no values."""
    if not values:
        return None
    if not all(map(math.isfinite, values)):
        return math.inf
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))
