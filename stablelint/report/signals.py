"""The measurements of one model as tables: the trunk block by block, its attention, parameters without gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from stablelint.report.blocks import places, render_blocks
from stablelint.report.deep import render_deep
from stablelint.report.numbers import count, exponent, number
from stablelint.report.surprises import render_surprises
from stablelint.report.table import table
from stablelint.report.text import signal_words
from stablelint.report.words import Paint, modules, plain, wrap
from stablelint.signals import Signal, Signals
from stablelint.signals.comparison import Comparison

_FREE = {"scale": "scaled", "shift": "shifted"}


def render_signals(name: str, found: Comparison, width: int = 80, colour: bool = False, *, fine: bool = False) -> str:
    """What was measured: first the summary, then one row for each block of the trunk from input to output.

    What was predicted stands beside it, and the places where the two begin to disagree below. ``fine`` says that bars
    may be drawn with block characters.
    """
    paint = Paint(colour)
    signals = found.measured
    summary = " · ".join([f"{plain(name)}: {count(signals.seeds, 'seed')}", *signal_words(signals.summary())])
    lines = [paint(line, "place") for line in wrap(summary, width, first="")]
    lines += wrap(", ".join(_predicted(found.predicted)), width)
    lines += wrap(" · ".join(_learning(signals)), width)
    if signals.nonfinite is not None:
        broken = signals.nonfinite
        text = f"first {broken.what} of the {broken.direction} pass: {broken.name} at {broken.site}"
        lines += [paint(line, "error") for line in wrap(text, width)]
    lines += render_blocks(found, width, paint, fine=fine)
    lines += render_surprises(found, width, paint)
    lines += _attention(signals.rows, width, paint)
    lines += _relative(signals, width)
    lines += _without_gradient(signals, width, paint)
    lines += render_deep(signals.deep, width, paint)
    return "".join(f"{line}\n" for line in lines)


def _predicted(signals: Signals | None) -> Iterator[str]:
    """The same figures of the prediction, shorter."""
    if signals is None:
        return
    if signals.gradient_ratio is not None:
        low, high = signals.gradient_ratio_band or (None, None)
        ends = "" if low is None else f" ({number(low)} to {number(high)})"
        yield f"predicted: gradient first/last block {number(signals.gradient_ratio)}{ends}"
        yield f"gradient exponent {exponent(signals.gradient_exponent)}"
        yield f"angle exponent {exponent(signals.angle_exponent)}"


def _learning(signals: Signals) -> Iterator[str]:
    """What the gradients of single samples say about the first steps of training."""
    if signals.discrimination is not None:
        yield f"different samples: {number(signals.discrimination)} of the gradient"
    if signals.sharpness:
        yield f"plain gradient descent needs steps below {number(1 / signals.sharpness)}"
    if signals.awakened:
        yield f"{count(signals.awakened, 'zero-initialised parameter')} moved along the gradient first"


def _attention(signals: Iterable[Signal], width: int, paint: Paint) -> list[str]:
    found = [signal for signal in signals if signal.peak is not None]
    place, cells = places([signal.site for signal in found])
    rows = [
        [
            signal.site.module or signal.name,
            where,
            number(signal.peak),
            number(signal.uniform_peak),
            number(signal.entropy),
        ]
        for signal, where in zip(found, cells, strict=True)
    ]
    header = ["attention", place, "peak", "uniform", "entropy"]
    return ["", *table(header, rows, width, paint, right={2, 3, 4}, shrink=(0, 1))] if rows else []


def _relative(signals: Signals, width: int) -> list[str]:
    """The least and the largest gradient over its weight, and what was left out of that."""
    known = [(each.relative, each.name) for each in signals.parameters if each.relative is not None and each.matrix]
    if not known:
        return []
    ends = dict.fromkeys((min(known), max(known)))
    text = "gradient over weight (rms): " + " to ".join(f"{number(size)} ({name})" for size, name in ends)
    kinds: Counter[str] = Counter(each.invariance for each in signals.parameters)
    how = [f"{kinds[kind]} that may be {word}" for kind, word in _FREE.items() if kinds[kind]]
    if how:
        text += f"; left out: {' and '.join(how)} without effect"
    return ["", *wrap(text, width, first="")]


def _without_gradient(signals: Signals, width: int, paint: Paint) -> list[str]:
    """Parameters without one; those behind a zero-initialised factor are apart, for they get theirs when it moves."""
    without = [each for each in signals.parameters if not each.grad_rms and not each.invariance]
    moving = {parameter.name for parameter in signals.parameters if parameter.grad_rms}
    asleep = [each.name for each in without if moving.intersection(each.sleepers)]
    stuck = [each.name for each in without if each.name not in asleep]
    lines = []
    if asleep:
        text = f"no gradient until zero-initialised weights behind them move: {_parameters(asleep)}"
        lines += wrap(text, width, first="")
    if stuck:
        lines += [paint(line, "warning") for line in wrap(f"no gradient: {_parameters(stuck)}", width, first="")]
    return ["", *lines] if lines else []


def _parameters(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else modules(names).replace("modules)", "parameters)")
