"""The prediction with one component switched off at a time, and what each adds in decades.

Components are patched from outside: the product code has no switches. A patch that no longer finds what it replaces
fails, so that the table cannot go on naming a component that is gone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from typing import Any

import numpy as np
from prediction_report import Row, compared, coverage, known, quantile

from stablelint.predict import backward, domain, interpreter, lags, marginal, profile, slant
from stablelint.predict.domain import Table, Value
from stablelint.predict.gaussian import IDENTITY, NODES, Law
from stablelint.predict.transfer import arithmetic, elementwise, normalization, softmax


@contextlib.contextmanager
def patched(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """``owner.name`` is ``replacement`` for the duration."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def everywhere(original: Any, replacement: Any) -> Iterator[None]:
    """The same for a function in every module of the prediction that has imported it."""
    modules = [module for key, module in sys.modules.items() if key.startswith("stablelint.predict")]
    with ExitStack() as stack:
        for module in modules:
            for name, value in list(vars(module).items()):
                if value is original:
                    stack.enter_context(patched(module, name, replacement))
        yield


@contextlib.contextmanager
def built_as(change: Callable[[Value], None]) -> Iterator[None]:
    """Every abstract value is changed as soon as it is made."""
    original = Value.__post_init__

    def made(value: Value) -> None:
        original(value)
        change(value)

    with patched(Value, "__post_init__", made):
        yield


def separate(table: Table, shape: Sequence[int], apart: float) -> Table:
    """The table of elements that have nothing in common but ``apart``, E[x_i x_j] for different elements."""
    result = np.full(table.shape, apart)
    same = tuple(slice(None) if size == 1 else 1 for size in shape)
    result[same] = table.flat[-1]
    return result


def no_value_correlations() -> AbstractContextManager[None]:
    """Different elements of a tensor share nothing but their mean."""

    def change(value: Value) -> None:
        value.table = separate(value.table, value.shape, value.mean * value.mean)

    return built_as(change)


def no_cotangent_correlations() -> AbstractContextManager[None]:
    """Gradients of different elements are independent."""
    settle = domain.settle

    def alone(table: Table, shape: Sequence[int]) -> Table:
        return separate(settle(table, shape), shape, 0.0)

    return patched(backward, "settle", alone)


def no_means() -> AbstractContextManager[None]:
    """Every distribution is centred."""

    def change(value: Value) -> None:
        value.mean = 0.0

    return built_as(change)


def uniform_attention() -> AbstractContextManager[None]:
    """Softmax spreads evenly whatever the logits are."""
    original = softmax.overlap

    def even(_variance: float, *rest: Any, **options: Any) -> softmax.Overlap:
        return original(0.0, *rest, **options)

    return everywhere(original, even)


@contextlib.contextmanager
def no_profiles() -> Iterator[None]:
    """All indices of an axis have the same second moment, forward and back."""

    def change(value: Value) -> None:
        value.profile = profile.EVEN

    def even(*_: Any) -> tuple[float, profile.Profile]:
        return 1.0, profile.EVEN

    with built_as(change), everywhere(profile.carried_back, even):
        yield


def no_unmerged_axes() -> AbstractContextManager[None]:
    """Batch and tokens that were merged into one axis stay so."""

    def merged(call: Any) -> Any:
        return interpreter.RULES[call.op.name](call)

    return patched(interpreter, "_ruled", merged)


def no_composition() -> AbstractContextManager[None]:
    """Every elementwise function takes its argument for a normal variable, also behind another one."""
    return everywhere(elementwise.expression, lambda value: (value, IDENTITY))


def no_degrees_of_freedom() -> AbstractContextManager[None]:
    """The inverse of a variance over few terms is taken for that of its mean."""

    def steady(_terms: float, eps: float, _groups: float) -> tuple[float, float]:
        return 1 / (1 + eps), eps * eps / (1 + eps) ** 3

    return everywhere(normalization.inverse_moments, steady)


def no_steady() -> AbstractContextManager[None]:
    """A norm does not know that what it reads is the result of one."""

    def change(value: Value) -> None:
        value.steady = None

    return built_as(change)


def no_marginals() -> AbstractContextManager[None]:
    """Everything that an elementwise function is applied to is normal."""
    return everywhere(marginal.law, lambda value: Law(value.mean, value.variance))


@contextlib.contextmanager
def no_neighbours() -> Iterator[None]:
    """Close places are as different as far ones."""
    with ExitStack() as stack:
        stack.enter_context(everywhere(lags.near, lambda *_: 0.0))
        stack.enter_context(everywhere(lags.overlap, lambda size, _lags: float(size)))
        for carry in (lags.strided, lags.pooled):
            stack.enter_context(everywhere(carry, lambda *_: None))
        yield


def no_slant() -> AbstractContextManager[None]:
    """The size of the gradient at an element does not depend on the element."""
    send = backward._send

    def independent(value: Value, *rest: Any) -> None:
        value.slant = None
        send(value, *rest)

    return patched(backward, "_send", independent)


def no_joint() -> AbstractContextManager[None]:
    """The gradient along a norm's result is that of independent tensors."""
    return patched(backward, "_join", lambda *_: None)


def no_winners() -> AbstractContextManager[None]:
    """The largest element of a pooling window is distributed like all others."""
    return everywhere(slant.of_winners, lambda _places: np.ones_like(NODES))


def no_spread() -> AbstractContextManager[None]:
    """One draw of the weights is like the expectation over all."""
    return patched(backward, "_spread", lambda *_: (0.0, 0.0))


@contextlib.contextmanager
def no_typical_attention() -> Iterator[None]:
    """Saturated attention passes its expectation, also where that comes from rows that no model has."""
    with patched(softmax, "_CACHE", {}), patched(softmax, "_typical", lambda rows, _: (float(rows.mean()), 0.0)):
        yield


def no_zero_branches() -> AbstractContextManager[None]:
    """A branch of zeros is added as any other, so that the sum is no longer the function that it was."""

    def added(whole: Value, nothing: Value, factor: float) -> Value:
        with patched(arithmetic, "_NOTHING", -1.0):
            result = arithmetic.add(whole, nothing, factor)
        result.joints = (slant.same_joint, None)
        return result

    return patched(arithmetic, "_beside", added)


def no_drawn_loops() -> AbstractContextManager[None]:
    """Steps of a loop through one weight have fresh weights each."""
    return patched(interpreter, "find_loops", lambda *_: ())


def no_segments() -> AbstractContextManager[None]:
    """What was concatenated forgets the variances of its parts."""

    def change(value: Value) -> None:
        value.segments = None

    return built_as(change)


def no_masks() -> AbstractContextManager[None]:
    """Attention looks everywhere."""
    original = softmax.overlap

    def unmasked(variance: float, correlation: float, size: int, _allowed: Any, **options: Any) -> softmax.Overlap:
        return original(variance, correlation, size, None, **options)

    return everywhere(original, unmasked)


def no_spelled_norms() -> AbstractContextManager[None]:
    """A norm or softmax that is spelled out is only its parts."""

    def change(value: Value) -> None:
        value.reduced = None

    return built_as(change)


ABLATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "correlations of values": no_value_correlations,
    "correlations of the cotangent": no_cotangent_correlations,
    "means": no_means,
    "softmax concentration": uniform_attention,
    "masks in softmax": no_masks,
    "token and spatial profiles": no_profiles,
    "axes apart through a merge": no_unmerged_axes,
    "composition of functions": no_composition,
    "degrees of freedom in norms": no_degrees_of_freedom,
    "norm behind a norm": no_steady,
    "distributions that are not normal": no_marginals,
    "neighbours along an axis": no_neighbours,
    "gradient depending on the value": no_slant,
    "gradient along a norm's result": no_joint,
    "winners of maxima": no_winners,
    "spread of one random network": no_spread,
    "typical rows of attention": no_typical_attention,
    "zero branches": no_zero_branches,
    "loops through one weight": no_drawn_loops,
    "segments of concatenations": no_segments,
    "norms that are spelled out": no_spelled_norms,
}


def ablated(predict: Callable[[], list[Row]], names: Sequence[str]) -> Iterator[str]:
    """A line for the whole prediction and one per component that is switched off, with the cases that it hurts."""
    whole = {row.name: row for row in compared(predict())}
    yield (
        f"{'without':<32}{'median':>8}{'p90':>7}{'parameters':>12}{'band':>7}{'extra: median':>15}"
        f"{'p90':>7}{'max':>7}{'gains':>7}  hurt most"
    )
    yield _line("nothing", list(whole.values()), whole)
    for name in names:
        with ABLATIONS[name]():
            rows = compared(predict())
        yield _line(name, rows, whole)


def _line(name: str, rows: Sequence[Row], whole: dict[str, Row]) -> str:
    errors = [row.error for row in rows]
    extra = sorted(((row.error - whole[row.name].error, row.name) for row in rows if row.name in whole), reverse=True)
    sizes = [size for size, _ in extra]
    hurt = ", ".join(f"{case} {size:+.2f}" for size, case in extra[:4] if size > 0.02)
    parameters = known([row.parameters for row in rows])
    return (
        f"{name:<32}{median(errors):>8.3f}{quantile(errors, 0.9):>7.2f}"
        f"{median(parameters) if parameters else float('nan'):>12.3f}{coverage(rows):>7.2f}"
        f"{median(sizes):>15.3f}{quantile(sizes, 0.9):>7.2f}{sizes[0]:>7.2f}{sizes[-1]:>7.2f}  {hurt}"
    )
