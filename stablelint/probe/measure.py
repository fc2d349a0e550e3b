"""Measure the signals of a model: a few forward and backward passes over several draws, more where they must decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.aggregate import Pass, aggregate
from stablelint.probe.deep import deepen
from stablelint.probe.draw import Draw, Loss
from stablelint.probe.given_loss import output_of, with_loss
from stablelint.probe.objective import of_output
from stablelint.probe.sharded import refuse
from stablelint.probe.state import preserved, seed_everything
from stablelint.probe.supply import supply
from stablelint.signals import Signals
from stablelint.signals.waking import seen_behind
from stablelint.trace import Origins

Rebuild = Callable[[int], tuple[nn.Module, Inputs]]
#: Whether nothing is left undecided by the signals so far.
Settled = Callable[[Signals], bool]

SEEDS = 3
#: Draws after which what is still undecided is reported as such.
MOST = 24


def measure(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    *,
    origins: Origins | None = None,
    rebuild: Rebuild | None = None,
    seeds: int = SEEDS,
    settled: Settled | None = None,
    first_seed: int = 0,
    loss: Loss | None = None,
    batches: int | None = None,
    deep: bool = False,
) -> tuple[Graph, Signals]:
    """Run ``model`` on ``inputs`` and return the trace of the run with the signals measured on it.

    The first pass uses ``model`` and ``inputs`` as given; further ones draw new weights and inputs through
    ``rebuild(seed)``, or only a new projection without it. Dropout and the projection have seeds of their own. There
    are ``seeds`` draws, from ``first_seed`` on, and as long as ``settled(signals)`` does not hold twice as many, up to
    :data:`MOST`: a sequential test, whose intervals (:mod:`stablelint.signals.interval`) hold at every look.

    ``inputs`` may also be a DataLoader or another iterable of batches: the draws then go through the first ``batches``
    of them (as many as ``seeds`` by default), which are taken apart as :mod:`stablelint.feed` says. ``loss`` takes the
    model's output, or the output and the target or ``batch``, and gives a scalar; by default it is the model's own loss
    or a fixed random projection of its outputs with a gradient of unit variance (:mod:`stablelint.probe.objective`).
    ``deep`` adds what one normal pass cannot show (:mod:`stablelint.probe.deep`), of the first model. The model and all
    random states are left as found, but for lazy layers, which get their shapes. Every process that a model is spread
    over calls this, and gets the same signals (:mod:`stablelint.probe.sharded`).

    Raises TraceTargetError when the forward pass fails, LossTargetError when the loss does, InputTargetError when a
    loader or its batches cannot be used.
    """
    if deep:
        refuse(model, "the deep measurements")
    inputs, rebuild = supply(
        model, inputs, rebuild=rebuild, loss=loss, batches=batches, default=seeds, first_seed=first_seed
    )

    def another(number: int) -> Pass:
        again, fresh = (model, inputs) if rebuild is None else _redrawn(rebuild, first_seed + number)
        return Draw.of(again, fresh, first_seed + number, number, loss).measured(first)

    with preserved(loss if isinstance(loss, nn.Module) else nn.Module()):  # it may have parameters and buffers
        draw = Draw.of(model, inputs, first_seed, 0, loss, origins)
        first = draw.measured()
        signals = _settled(first, draw.behind(first), another, seeds, settled)
        if deep:
            scalar = None if loss is None else of_output(loss, inputs)
            signals = replace(signals, deep=deepen(model, inputs, first.graph, signals, loss=scalar))
        graph = first.graph if loss is None else with_loss(first.graph, output_of(model, inputs), inputs, loss)
    return graph, signals


def _settled(
    first: Pass, behind: Pass | None, another: Callable[[int], Pass], seeds: int, settled: Settled | None
) -> Signals:
    """The signals of ``first`` and of as many further passes as it takes; ``behind`` is one with zeros woken."""
    passes = [first]
    tried = 1
    while True:
        found = map(another, range(tried, seeds))
        passes += [other for other in found if [op.name for op in other.graph] == [op.name for op in first.graph]]
        signals = aggregate(passes)
        if behind is not None:
            signals = seen_behind(signals, aggregate([behind]))
        if settled is None or settled(signals) or seeds >= MOST or len(passes) < 2:
            return signals
        tried, seeds = seeds, min(2 * seeds, MOST)


def _redrawn(rebuild: Rebuild, seed: int) -> tuple[nn.Module, Inputs]:
    with preserved(nn.Module()):
        seed_everything(seed)
        return rebuild(seed)
