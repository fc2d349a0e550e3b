"""The gradients of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What a network takes out again of a parameter: nothing, a factor or an offset.
Invariance = Literal["", "scale", "shift"]


@dataclass(frozen=True, slots=True)
class ParameterSignal:
    """A parameter's gradient: rms of values and of the gradient, per element; None when there is no gradient.

    ``readers`` are the ops at which it first meets the data on its way to an output (none: it is not used),
    ``sleepers`` the all-zero trainable factors that stand behind those. ``matrix`` says that it has rows and columns,
    ``passed_over`` that a gradient of 0 is one of this batch: data or chance picked others. ``invariance`` is
    "scale" or "shift" where a factor or an offset is measured to have no effect (:mod:`stablelint.probe.invariance`).
    """

    name: str
    rms: float
    grad_rms: float | None
    readers: tuple[int, ...] = ()
    sleepers: tuple[str, ...] = ()
    matrix: bool = False
    passed_over: bool = False
    invariance: Invariance = ""

    @property
    def relative(self) -> float | None:
        """The gradient's rms over that of the values, where both say something."""
        return self.grad_rms / self.rms if self.grad_rms and self.rms and not self.invariance else None
