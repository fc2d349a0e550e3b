"""What bounds the step: curvature, gradient noise, gradient norms and block Jacobians of one model on one loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

#: A threshold this many times below the median norm clips practically every step.
FAR_BELOW = 10.0
#: Margin on the duration of one catapult, which theory gives up to a factor (see :func:`warmup`).
CATAPULTS = 10


@dataclass(frozen=True, slots=True)
class Hessian:
    """The ends of the spectrum of the loss's Hessian with respect to all trainable parameters.

    - ``largest``, ``smallest``: extreme Ritz values, in units of loss per squared parameter; ``residuals``: the
      norms |Hv - theta v| of both over the larger of |theta| and a hundredth of the spectrum's size. An eigenvalue
      lies within that relative distance (Parlett 1998, The Symmetric Eigenvalue Problem, theorem 4.5.1).
    - ``mean_absolute``: mean |eigenvalue|, from the Gauss quadrature of one random vector (stochastic Lanczos
      quadrature: Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159, section 2); an estimate.
    - ``parameters``: dimension of the Hessian; ``products``: Hessian-vector products that were formed, and ``by``
      what; ``cost``: forward and backward passes that this took, about.
    """

    largest: float
    smallest: float
    residuals: tuple[float, float]
    converged: tuple[bool, bool]
    mean_absolute: float
    parameters: int
    products: int
    by: Literal["double backward", "differences of gradients"]
    cost: float

    def max_learning_rate(self, momentum: float = 0.0) -> float:
        """The largest stable learning rate of gradient descent, (2 + 2 momentum) / largest; infinite without curvature.

        Source: Cohen et al. 2021, arXiv:2103.00065, section 2 (heavy ball momentum). For Adam the curvature that
        counts is preconditioned, and this bound says nothing.
        """
        return 2 * (1 + momentum) / self.largest if self.largest > 0 else math.inf

    @property
    def condition(self) -> float | None:
        """``largest`` over ``mean_absolute``: steps that the mean direction waits for the steepest one.

        The smallest eigenvalue of a network's Hessian is negative and most are zero, so their ratio is no condition.
        """
        return self.largest / self.mean_absolute if self.mean_absolute > 0 else None


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """The simple gradient noise scale, tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9).

    - ``gradient_square``: |G|^2 without bias from two batch sizes, ``group`` and ``groups * group`` samples
      (appendix A.1); it can be negative when the gradients do not agree. ``trace``: tr(Sigma) of single samples.
    - ``error``: standard error of ``gradient_square`` by the jackknife over groups.
    - ``batch``: the noise scale, a number of samples: below it twice the batch saves almost half of the steps, above
      it almost none. ``resolved`` says that |G|^2 stands out of its error; ``at_least`` is what is known where not.
    """

    gradient_square: float
    error: float
    trace: float
    group: int
    groups: int
    cost: float

    @property
    def batch(self) -> float:
        """tr(Sigma) / |G|^2, in samples; infinite where the estimate of |G|^2 is not positive."""
        return self.trace / self.gradient_square if self.gradient_square > 0 else math.inf

    @property
    def resolved(self) -> bool:
        """Whether |G|^2 is above twice its standard error."""
        return self.gradient_square > 2 * self.error

    @property
    def at_least(self) -> float:
        """The noise scale with |G|^2 at twice its standard error above the estimate."""
        bound = self.gradient_square + 2 * self.error
        return self.trace / bound if bound > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the gradients of samples, and of layers, go together.

    - ``samples``: cosines between the gradients of groups of samples, ``groups`` x ``groups``; ``mean_cosine``: mean
      of those off the diagonal.
    - ``participation``: (tr K)^2 / tr(K^2) of the gradients' Gram matrix K, between 1 (all samples pull the same
      way) and ``groups`` (each pulls its own).
    - ``layers``: names; ``between_layers``: |C_lm|^2 / (|C_ll| |C_mm|) with C_lm the uncentred covariance of the
      gradients of two layers over samples, from their Gram matrices by |C_lm|^2 = tr(K_l K_m) (linear CKA:
      Kornblith et al. 2019, arXiv:1905.00414, eq. 3): 1 where two layers tell the samples apart in the same way.
    - ``exact``: False when K was estimated from some entries of each parameter, to bound the memory.
    """

    samples: tuple[tuple[float, ...], ...]
    mean_cosine: float
    participation: float
    layers: tuple[str, ...]
    between_layers: tuple[tuple[float, ...], ...]
    exact: bool

    @property
    def mean_layer_cosine(self) -> float | None:
        """Mean of ``between_layers`` off the diagonal."""
        size = len(self.layers)
        if size < 2:
            return None
        return (sum(map(sum, self.between_layers)) - size) / (size * (size - 1))


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Global gradient norms (over all parameters) of several batches and seeds, sorted.

    Clipping at the 95th or 99th percentile leaves usual steps alone and cuts what stands out (the norms of the first
    steps are meant: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 3.2, propose a multiple of the mean).
    """

    norms: tuple[float, ...]
    cost: float

    def percentile(self, percent: float) -> float:
        """The norm that ``percent`` of all are below, interpolated; between 0 and 100."""
        place = (len(self.norms) - 1) * percent / 100
        low = math.floor(place)
        high = min(low + 1, len(self.norms) - 1)
        return self.norms[low] + (place - low) * (self.norms[high] - self.norms[low])

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return self.percentile(50)

    def warning(self, threshold: float) -> str | None:
        """A sentence when ``threshold`` is so small that clipping is the rule: it then divides the learning rate."""
        if threshold * FAR_BELOW >= self.median:
            return None
        return (
            f"gradients are clipped at {threshold:.2g} and their median norm is {self.median:.2g}: every step is "
            f"clipped, which divides the learning rate by about {self.median / threshold:.2g}"
        )


@dataclass(frozen=True, slots=True)
class Warmup:
    """A warm-up for a learning rate: ``ratio`` = rate * largest eigenvalue / 2, ``start`` and length in ``steps``.

    Up to a ratio of 1 the first step is stable and no warm-up is needed (0 steps).
    """

    learning_rate: float
    ratio: float
    start: float
    steps: int


def warmup(hessian: Hessian, learning_rate: float) -> Warmup:
    """The warm-up of gradient descent that the initial curvature asks for.

    Training is unstable while rate * lambda / 2 > 1, and a rising rate makes lambda fall until 2 / lambda exceeds it
    (Gilmer et al. 2021, arXiv:2110.04369, section 3): so start at 2 / lambda. How long is an estimate. A rate between
    2 / lambda and 4 / lambda flattens the loss by a catapult, which takes of the order of log(n) steps for n units
    (Lewkowycz et al. 2020, arXiv:2003.02218, section 2); with n the number of parameters and ten times that for
    each of the log2(ratio) doublings of the rate the curvature has time to follow.

    Raises ValueError for a rate that is not positive.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"a learning rate is above 0, not {learning_rate}")
    ratio = learning_rate * max(hessian.largest, 0.0) / 2
    if ratio <= 1:
        return Warmup(learning_rate, ratio, learning_rate, 0)
    steps = math.ceil(CATAPULTS * math.log(max(hessian.parameters, 3)) * math.log2(ratio))
    return Warmup(learning_rate, ratio, learning_rate / ratio, steps)


@dataclass(frozen=True, slots=True)
class BlockSpectrum:
    """Singular values of the Jacobian of one block of the trunk, of its output with respect to its input.

    Over the whole batch, so ``largest`` is that of the worst sample. ``mean_square`` is the mean over the
    min(inputs, outputs) singular values of their squares, with its standard ``error`` (0 where all were found).
    Dynamical isometry, all of them near 1, is what lets deep networks train fast (Saxe, McClelland and Ganguli 2014,
    arXiv:1312.6120; Pennington, Schoenholz and Ganguli 2017, arXiv:1711.04735, eq. 4). ``smallest`` is an upper bound
    of the smallest one unless ``converged`` says that it was reached; ``largest`` likewise a lower bound.
    ``largest``, ``smallest`` are None where the second derivative that they need is not implemented. ``name`` and
    ``module`` say which op ends the block; ``products`` with J'J were formed.
    """

    block: int
    name: str
    module: str
    largest: float | None
    smallest: float | None
    converged: tuple[bool, bool]
    mean_square: float
    error: float
    inputs: int
    outputs: int
    products: int


@dataclass(frozen=True, slots=True)
class Curvature:
    """All of the above for one model; ``remarks`` say in a sentence each what could not be had.

    ``loss`` says which loss the numbers are for: they scale with it, and learning rates do inversely.
    """

    loss: str
    hessian: Hessian | None = None
    noise: NoiseScale | None = None
    agreement: Agreement | None = None
    norms: GradientNorms | None = None
    blocks: tuple[BlockSpectrum, ...] = ()
    remarks: tuple[str, ...] = ()
    cost: float = 0.0
