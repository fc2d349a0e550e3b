"""Measurements beyond one gradient at step 0 on a normal batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.probe.batches import differentiable
from stablelint.probe.deep.learning import learning
from stablelint.probe.deep.modes import modes
from stablelint.probe.deep.precision import half_run, precision
from stablelint.probe.deep.triggers import triggers
from stablelint.probe.frozen import calibrate
from stablelint.probe.state import preserved, seed_everything, training
from stablelint.signals import Deep, Signals
from stablelint.trace import tensors_in

__all__ = ["deepen"]

Part = TypeVar("Part")


def deepen(
    model: nn.Module,
    inputs: Inputs,
    graph: Graph,
    signals: Signals,
    *,
    seed: int = 0,
    loss: Callable[[object], torch.Tensor] | None = None,
) -> Deep:
    """Everything of :class:`stablelint.signals.Deep`, given what a normal pass has shown; the model is left as found.

    Where the normal batch is not finite only one-sample and eval-mode behaviour is looked at: the rest would find the
    same again. Costs up to 200 passes for the learning rates (40 steps at 5, fewer where the loss falls soon), one for
    each unusual batch, and six for the rest.
    """
    place = next(place for place, index in enumerate(graph.outputs) if index == graph.flow.sink)

    def pick(output: object) -> torch.Tensor:
        return loss(output) if loss is not None else tensors_in(output)[place]

    failed: list[str] = []

    def part(name: str, measured: Callable[[], Part]) -> Part | None:
        try:
            with preserved(model):
                return measured()
        except Exception as error:  # of the user's model, in a pass that is none of its own: the other parts go on
            failed.append(f"{name}: {type(error).__name__}")
            return None

    with preserved(model), training(model), torch.enable_grad():
        seed_everything(seed)
        calibrate(model, differentiable(inputs))
        lonely = part("modes", lambda: modes(model, inputs, seed))
        if signals.nonfinite is not None:
            return Deep(modes=lonely, failed=tuple(failed))
        fits = part("learning rates", lambda: learning(model, inputs, pick, seed))
        found, tried = part("unusual batches", lambda: triggers(model, inputs, seed, loss)) or ((), ())
        rows = part("half precision", lambda: precision(model, inputs, seed, loss)) or ()
        half = part("bfloat16", lambda: half_run(model, inputs, seed))
    return Deep(fits, found, tried, rows, half, lonely, tuple(failed))
