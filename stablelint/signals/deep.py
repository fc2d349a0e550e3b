"""What a gradient at step 0 on a normal batch cannot show: the evidence of ``--deep``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stablelint.finding import Fact
from stablelint.site import Site

#: From this share of the loss of knowing nothing on, a fit has learned . In `scripts/measure_deep.py`
#: each network that trains takes away 0.81 at least at its best rate, and half of those that never train nothing.
LEARNED = 0.25


@dataclass(frozen=True, slots=True)
class Fit:
    """At most ``steps`` optimiser steps on one batch: the loss before the first and the mean of the last few.

    ``last`` is infinite when the loss stopped being finite.
    """

    optimiser: str
    rate: float
    first: float
    last: float
    steps: int = 40

    @property
    def label(self) -> str:
        """``Adam 0.003``."""
        return f"{self.optimiser} {self.rate:g}"


@dataclass(frozen=True, slots=True)
class Learning:
    """Fits of the same weights to the same batch at several rates.

    ``nothing`` is the loss of the best answer that is the same for all samples; of a model's own loss, which has no
    such bound, it is the loss before the first step.
    """

    fits: tuple[Fit, ...]
    nothing: float = 1.0
    own_loss: bool = False
    steps: int = 40

    def progress(self, fit: Fit) -> float:
        """The share of the loss of knowing nothing that a fit takes away; 0 where it ends above."""
        if not math.isfinite(fit.last) or self.nothing == 0:
            return 0.0
        return max(0.0, (self.nothing - fit.last) / abs(self.nothing))

    @property
    def best(self) -> float:
        """The most that a fit takes away."""
        return max(map(self.progress, self.fits), default=0.0)

    def slow(self, fit: Fit) -> bool:
        """Whether a fit is on its way down to the loss of knowing nothing and not there yet: it may still learn.

        One that gets there and stays has lost what tells the samples apart, and one that rises is lost, too.
        """
        way = fit.first - self.nothing
        return not self.own_loss and way > 0.05 * self.nothing and self.nothing + 0.2 * way < fit.last < fit.first

    def learned(self, least: float) -> tuple[Fit, ...]:
        """The fits that take away at least ``least``."""
        return tuple(fit for fit in self.fits if self.progress(fit) >= least)


@dataclass(frozen=True, slots=True)
class Trigger:
    """An unusual batch on which a value or a gradient stops being finite though the normal batch stays finite.

    ``low`` and ``high`` are the range of the op's finite inputs. ``masked``: no parameter's gradient is hit. ``rare``:
    data seldom hold it (large values, a mask over a whole sample).
    """

    trigger: str
    op: int
    name: str
    site: Site
    direction: Literal["forward", "backward"]
    what: str
    low: float | None = None
    high: float | None = None
    masked: bool = False
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Precision:
    """What half precision would do to one op's output and gradient, from their float32 values.

    - ``overflow``: share of the elements above 65504, float16's largest; those far below zero are masks and do not
      count.
    - ``underflow``: share of the elements, zeros aside, that are 0 in float16 (below 2**-25).
    - ``grad_underflow``: the same of the gradient, with the largest loss scale that overflows nowhere in the pass.
    - ``absorbed``: for a sum, whether bfloat16's 8 bits lose the smaller operand altogether (its rms is less than
      2**-9 of the other's).
    """

    op: int
    name: str
    site: Site
    largest: float
    overflow: float = 0.0
    underflow: float = 0.0
    grad_underflow: float | None = None
    absorbed: bool = False


@dataclass(frozen=True, slots=True)
class HalfRun:
    """A real pass under bfloat16 autocast beside the float32 one: relative rms error of the output, cosine of the
    parameters' gradients; None where one of the two is not finite.
    """

    output_error: float | None
    gradient_cosine: float | None


@dataclass(frozen=True, slots=True)
class Modes:
    """How the output depends on what surrounds a sample and on the mode.

    - ``single``: the sentence with which a training pass on one sample fails, empty when it runs.
    - ``single_change``: relative rms change of a sample's output when it is alone in a training batch.
    - ``gap``: relative rms difference of the output in train and eval mode, with running statistics taken from this
      batch, so that only what they cannot stand for is left.
    """

    single: str = ""
    single_site: Site | None = None
    single_change: float | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Deep:
    """Everything that ``--deep`` measures; a part is None where it could not be measured.

    ``tried`` are the unusual batches that the model accepts; ``failed`` says which parts raised, and what.
    """

    learning: Learning | None = None
    triggers: tuple[Trigger, ...] = ()
    tried: tuple[str, ...] = ()
    precision: tuple[Precision, ...] = ()
    half: HalfRun | None = None
    modes: Modes | None = None
    failed: tuple[str, ...] = ()

    def summary(self) -> dict[str, Fact]:
        """The few numbers for a report, beside those of :meth:`stablelint.signals.Signals.summary`."""
        return {
            "learning_best": None if self.learning is None else self.learning.best,
            "learning_rates": None if self.learning is None else len(self.learning.learned(LEARNED)),
            "unusual_non_finite": ", ".join(trigger.trigger for trigger in self.triggers),
            "half_overflow": max((each.overflow for each in self.precision), default=None),
            "bfloat16_error": None if self.half is None else self.half.output_error,
            "train_eval_gap": None if self.modes is None else self.modes.gap,
        }
