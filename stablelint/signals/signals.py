"""The table of signals: one type, filled by the prediction or by the probe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from stablelint.finding import Fact
from stablelint.graph.cuts import Cut
from stablelint.signals import exponents
from stablelint.signals.deep import Deep
from stablelint.signals.parameters import ParameterSignal
from stablelint.site import Site

Source = Literal["predicted", "measured"]

#: Standard deviations on either side of a band that holds nine out of ten normal values.
NINETY = 1.645


@dataclass(frozen=True, slots=True)
class Signal:
    """The signal at one op: statistics of its output in the forward pass and of the gradient that comes back to it.

    All are over batch and features, geometric means over seeds; what is not known is None.

    - ``grad_rms``: per element, under a loss whose gradient at the model's output has unit variance.
    - ``sensitivity``: the rms change of the output per unit of relative change of the op's values, rms(x) * rms(g)
      * sqrt(numel(x) / numel(output)): what the output still hears of this op. It does not depend on a scale that
      a following norm removes.
    - ``similarity``: mean cosine between different samples of the batch (1.0: the op does not tell them apart);
      ``token_similarity``: one minus the variance between positions of a sample over all variance (1.0: all
      tokens of a sample are the same though samples differ).
    - ``unit_similarity``: share of the second moment that all units have in common, the smaller of that of the
      values and that of the gradients (1.0: all units compute and learn the same thing).
    - ``dead``: share of units that are zero with zero derivative for the whole batch; ``saturated``: share of
      elements whose derivative is below a hundredth of the function's largest.
    - ``retention``: factor by which a recurrent op scales the gradient per time step on its way back; ``steps_heard``:
      share of time steps that get at least a thousandth of the largest gradient, ``step_variation``: standard deviation
      of the gradient's rms over the steps by its mean (0: all hear the same; the root of their number: one hears all).
    - ``peak``: mean of the largest attention weight of a row; ``uniform_peak``: what it is for uniform attention;
      ``entropy``: mean entropy of a row over log(row length).
    - ``grad_spread``: standard deviation in decades of ``grad_rms``. Predicted: of one network like this one, against
      that of the model's last layer. Measured: between seeds, None for a single one. ``rms_spread`` is the measured one
      of ``rms``.
    - ``margins``: of what was measured over several draws, half the interval that holds the mean over all draws
      (:mod:`stablelint.signals.interval`): of ``sensitivity`` and ``retention`` in decades, of ``dead``, ``saturated``
      and ``peak`` as they are.
    - ``block``: position along the trunk, None beside it; ``place``: which of the model's repeated blocks or steps
      the op belongs to ("block 7 of 24"), empty outside of any.
    """

    op: int
    name: str
    site: Site
    block: int | None = None
    place: str = ""
    mean: float | None = None
    rms: float | None = None
    grad_rms: float | None = None
    rms_spread: float | None = None
    grad_spread: float | None = None
    sensitivity: float | None = None
    similarity: float | None = None
    token_similarity: float | None = None
    unit_similarity: float | None = None
    dead: float | None = None
    saturated: float | None = None
    retention: float | None = None
    steps_heard: float | None = None
    step_variation: float | None = None
    peak: float | None = None
    uniform_peak: float | None = None
    entropy: float | None = None
    finite: bool = True
    grad_finite: bool = True
    margins: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How a message calls the op: its name, its module path and its place among repeated blocks."""
        return " ".join(filter(None, (self.name, self.site.module, f"({self.place})" if self.place else "")))

    def doubt(self, value: float, threshold: float) -> float | None:
        """The factor each way within which nine out of ten networks have ``value``, if ``threshold`` is in there.

        ``value`` is one that goes with the gradient of this op; None where it is far enough away.
        """
        if not self.grad_spread or not 0 < value < math.inf:
            return None
        return near_threshold(value, threshold, NINETY * self.grad_spread)


def near_threshold(value: float, threshold: float, decades: float | None) -> float | None:
    """The factor of ``decades``, if ``threshold`` is within it of ``value``; infinite where nothing can be said."""
    if decades == math.inf:
        return math.inf
    if not decades or not 0 < value < math.inf:
        return None
    return 10 ** min(decades, 300.0) if abs(math.log10(value / threshold)) < decades else None


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first op of a pass whose result holds NaN or infinity though its inputs did not.

    ``masked`` says that no parameter's gradient is hit: a ReLU, say, multiplies the NaN by an exact zero mask.
    ``beside`` are further ops that would yield it from finite inputs, for they read memory that nobody has written.
    """

    op: int
    name: str
    site: Site
    direction: Literal["forward", "backward"]
    what: str
    masked: bool = False
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Break:
    """Where the gradient leaves its healthy size on its way back, see :func:`stablelint.signals.exponents.breaks`.

    ``factor`` is what the block as a whole does to the gradient, ``signal`` the op of the block that does most of it.
    """

    signal: Signal
    factor: float


@dataclass(frozen=True)
class Signals:
    """The signals of a model, in execution order, and what they were taken from.

    - ``discrimination``: how differently the parameters learn from different samples: the largest eigenvalue of the
      centred tangent kernel over that of the kernel itself, gradients scaled per tensor as Adam does (0: every
      sample pushes the weights the same way). The condition number of this kernel decides trainability (Xiao,
      Pennington and Schoenholz 2020, arXiv:1912.13053).
    - ``sharpness``: the largest eigenvalue of the kernel for a unit-variance output gradient; plain gradient
      descent needs steps below its inverse.
    - ``awakened``: the zero-initialised parameters that were given a small value along their gradient before the
      gradient was measured behind them.
    - ``gradient_ratio_band``: where nine out of ten networks that are drawn like this one have their
      :attr:`gradient_ratio`; None when it was measured.
    - ``cuts``: the ops that keep the gradient from parameters for good, as they stand in the graph.
    - ``doubts``: the ops of the signal path that a prediction has no rule for or whose result was guessed; what is
      predicted around them is never an error.
    - ``margins``: as those of a :class:`Signal`, of ``discrimination`` and of the ways that squashing
      functions leave ``open`` in decades, of the exponents in nats per block.
    - ``deep``: what ``--deep`` measures on top, else None.
    """

    source: Source
    rows: tuple[Signal, ...]
    parameters: tuple[ParameterSignal, ...] = ()
    nonfinite: NonFinite | None = None
    seeds: int = 1
    discrimination: float | None = None
    sharpness: float | None = None
    awakened: int = 0
    doubts: tuple[str, ...] = ()
    deep: Deep | None = None
    gradient_ratio_band: tuple[float, float] | None = None
    cuts: tuple[Cut, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)

    def doubt(self, row: Signal, value: float, threshold: float) -> float | None:
        """The factor each way within which ``value``, which goes with the gradient of ``row``, is known.

        Only where ``threshold`` is in there, else None: of a prediction for nine out of ten networks like this one,
        of a measurement for the mean over all draws.
        """
        if self.source == "predicted":
            return row.doubt(value, threshold)
        return near_threshold(value, threshold, row.margins.get("sensitivity"))

    @cached_property
    def trunk(self) -> tuple[Signal, ...]:
        """The rows that every path from the input to the output passes, in order."""
        return tuple(sorted((row for row in self.rows if row.block is not None), key=lambda row: (row.block, row.op)))

    @cached_property
    def by_op(self) -> dict[int, Signal]:
        """Rows by the index of their op in the graph."""
        return {row.op: row for row in self.rows}

    def blocks(self) -> Iterator[tuple[int, Signal]]:
        """The last row of each block of the trunk: its number and the signal that leaves it."""
        last: dict[int, Signal] = {}
        for row in self.trunk:
            assert row.block is not None
            last[row.block] = row
        yield from sorted(last.items())

    @property
    def depth(self) -> int:
        """Blocks of the trunk."""
        return len({row.block for row in self.trunk})

    @property
    def gradient_ratio(self) -> float | None:
        """Gradient rms that leaves the first block over that of the last (10**H of the design)."""
        grads = [signal.grad_rms for _, signal in self.blocks() if signal.grad_rms is not None]
        if len(grads) < 2 or not all(map(math.isfinite, grads)) or grads[-1] == 0:
            return None
        return grads[0] / grads[-1]

    @property
    def growth_per_block(self) -> float | None:
        """Geometric mean of the factor that one block applies to the gradient on its way back to the input."""
        ratio, depth = self.gradient_ratio, self.depth
        return ratio ** (1 / (depth - 1)) if ratio and depth > 1 else None

    @property
    def gradient_exponent(self) -> float | None:
        """Growth of log gradient rms per block on its way back, over all blocks; 0 is ideal (nats per block)."""
        return exponents.gradient_exponent(self._gradients())

    @property
    def angle_exponent(self) -> float | None:
        """Growth of log dissimilarity per block (nats) towards the output; strongly negative is collapse.

        Of two tokens of a sample where at least half of the blocks have tokens, else of two samples. At initialisation
        it predicts, with the gradient exponent, the final loss of deep transformers (Cowsik et al. 2024,
        arXiv:2403.02579).
        """
        tokens, samples = self._dissimilarities("token_similarity"), self._dissimilarities("similarity")
        return exponents.angle_exponent(tokens if 2 * len(tokens) >= self.depth else samples)

    @property
    def breaks(self) -> Break | None:
        """Where the product of the blocks' factors on the gradient breaks; None while the gradient is intact.

        A gradient that changes because the size of the activations does is intact: behind a norm, embeddings of rms
        0.02 get 50 times the gradient of the stream and need it. So some sensitivity must lie as far off, where known.
        """
        found = exponents.breaks(self._gradients())
        if found is None:
            return None
        block, factor = found
        heard = [row.sensitivity for row in self.trunk if row.sensitivity is not None]
        if heard and not any(exponents.off(value, growing=factor > 1) for value in heard):
            return None
        known = [
            (row, row.block, row.grad_rms) for row in self.trunk if row.block is not None and row.grad_rms is not None
        ]
        start = next(index for index, (_, number, _) in enumerate(known) if number == block) - 1
        way = [each for each in known[start:] if each[1] <= block]
        place = exponents.largest_step([grad for _, _, grad in way], growing=factor > 1)
        return Break(way[place][0], factor)

    @property
    def sensitivities(self) -> tuple[float | None, float | None]:
        """The least and the largest finite sensitivity along the trunk."""
        known = [row.sensitivity for row in self.trunk if row.sensitivity is not None]
        finite = [value for value in known if math.isfinite(value)]
        return min(finite, default=None), max(finite, default=None)

    def _gradients(self) -> list[tuple[int, float | None]]:
        return [(block, signal.grad_rms) for block, signal in self.blocks()]

    def _dissimilarities(self, column: Literal["similarity", "token_similarity"]) -> list[tuple[int, float | None]]:
        """1 - similarity by block, at the last op of each block that has one (a reshape has none)."""
        known: dict[int, float | None] = {}
        for row in self.trunk:
            value = getattr(row, column)
            if row.block is not None and value is not None:
                known[row.block] = 1 - value
        return sorted(known.items())

    def summary(self) -> dict[str, Fact]:
        """The few numbers that stand for the model in a report, a baseline or ``benchmark.extra_info``."""
        broken = self.breaks
        least, most = self.sensitivities
        return {
            "source": self.source,
            "seeds": self.seeds,
            "depth": self.depth,
            "gradient_ratio": self.gradient_ratio,
            "gradient_ratio_low": self.gradient_ratio_band[0] if self.gradient_ratio_band else None,
            "gradient_ratio_high": self.gradient_ratio_band[1] if self.gradient_ratio_band else None,
            "growth_per_block": self.growth_per_block,
            "gradient_exponent": self.gradient_exponent,
            "gradient_exponent_margin": self.margins.get("gradient_exponent"),
            "angle_exponent": self.angle_exponent,
            "angle_exponent_margin": self.margins.get("angle_exponent"),
            "break_block": None if broken is None else broken.signal.block,
            "break_op": None if broken is None else broken.signal.label,
            "break_site": None if broken is None else str(broken.signal.site),
            "break_factor": None if broken is None else broken.factor,
            "least_sensitivity": least,
            "most_sensitivity": most,
            "discrimination": self.discrimination,
            "sharpness": self.sharpness,
            "dead": max((row.dead for row in self.rows if row.dead is not None), default=None),
            "attention_peak": max((row.peak for row in self.rows if row.peak is not None), default=None),
            "finite": self.nonfinite is None,
            **({} if self.deep is None else self.deep.summary()),
        }
