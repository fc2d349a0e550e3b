"""What a figure of one model shows, whoever draws it: curves over the blocks, their names, and the words around."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from stablelint.report.numbers import count, exponent, number
from stablelint.report.table import abbreviated
from stablelint.report.words import plain
from stablelint.signals import Signals
from stablelint.signals.comparison import Block, Comparison, Quantity

#: Colours that stay apart in print, on dark paper and for colour-blind readers (Okabe & Ito).
MEASURED, PREDICTED, BREAK = "#0072B2", "#D55E00", "#CC79A7"
_LABEL = 16  # characters of the name of a block on the axis

#: What is drawn lies in here, so that margins and bands around it are floats.
_LEAST, _MOST = 1e-300, 1e300

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over the blocks; numbers that have no logarithm are None.

    ``bars`` are one standard deviation between seeds on either side of ``measured``, ``band`` holds nine of ten
    networks around ``predicted``. ``zeros`` and ``infinite`` are the blocks at which 0, or nothing finite, was
    measured, ``off`` those that lie outside of the band in which a prediction is no surprise.
    """

    title: str
    measured: tuple[float | None, ...]
    bars: tuple[Ends | None, ...]
    predicted: tuple[float | None, ...]
    band: tuple[Ends | None, ...]
    zeros: tuple[int, ...] = ()
    infinite: tuple[int, ...] = ()
    off: tuple[int, ...] = ()

    @property
    def range(self) -> Ends:
        """The decades that an axis must hold, at least two; (-1, 1) when there is no number."""
        ends = [end for pair in (*self.bars, *self.band) if pair is not None for end in pair]
        known = [math.log10(value) for value in (*self.measured, *self.predicted, *ends) if _drawn(value)]
        if not known:
            return -1.0, 1.0
        low, high = min(known), max(known)
        missing = max(2.0 - (high - low), 0.0) / 2
        margin = 0.05 * (high - low)
        return max(low - missing - margin, -305.0), min(high + missing + margin, 305.0)


@dataclass(frozen=True, slots=True)
class Curves:
    """The figure of one model; ``breaks`` is the index of the block where the gradient breaks."""

    name: str
    blocks: tuple[Block, ...]
    labels: tuple[str, ...]
    gradient: Panel
    rms: Panel
    seeds: int
    facts: tuple[str, ...]
    breaks: int | None = None
    break_words: str = ""


def curves(name: str, found: Comparison) -> Curves:
    """The curves of one model."""
    blocks = found.blocks
    broken = found.measured.breaks
    at = None
    if broken is not None:
        at = next((index for index, block in enumerate(blocks) if block.number == broken.signal.block), None)
    return Curves(
        plain(name),
        blocks,
        tuple(map(_label, blocks)),
        _panel("gradient rms", blocks, "gradient"),
        _panel("activation rms", blocks, "rms"),
        found.measured.seeds,
        tuple(_facts(found.measured, found.predicted)),
        at,
        f"breaks at block {broken.signal.block} ({plain(broken.signal.name)})" if broken is not None else "",
    )


def _label(block: Block) -> str:
    return plain(f"{block.number} {abbreviated(block.signal.site.module or block.signal.name, _LABEL)}")


def ticks(length: int, most: int) -> list[int]:
    """At most ``most`` of ``length`` places evenly apart, but that the last takes the place of one too close to it."""
    step = math.ceil(length / max(most, 1)) or 1
    places = list(range(0, length, step))
    if places and places[-1] != length - 1:
        if length - 1 - places[-1] < step and len(places) > 1:
            places.pop()
        places.append(length - 1)
    return places


def _panel(title: str, blocks: Sequence[Block], quantity: Quantity) -> Panel:
    back = quantity == "gradient"
    measured = [block.signal.grad_rms if back else block.signal.rms for block in blocks]
    finite = [block.signal.grad_finite if back else block.signal.finite for block in blocks]
    spreads = [block.signal.grad_spread if back else block.signal.rms_spread for block in blocks]
    predicted = [block.gradient if back else block.rms for block in blocks]
    return Panel(
        title,
        tuple(map(_number, measured)),
        tuple(_bar(value, spread) for value, spread in zip(measured, spreads, strict=True)),
        tuple(map(_number, predicted)),
        tuple(_ends(block.band) if back else None for block in blocks),
        zeros=tuple(index for index, value in enumerate(measured) if value == 0 and finite[index]),
        infinite=tuple(
            index
            for index, value in enumerate(measured)
            if value is not None and not (finite[index] and value < math.inf)
        ),
        off=tuple(index for index, block in enumerate(blocks) if quantity in block.off),
    )


def _facts(measured: Signals, predicted: Signals | None) -> list[str]:
    def both(word: str, of: Callable[[Signals], str]) -> str:
        beside = "" if predicted is None else f" (predicted {of(predicted)})"
        return f"{word} {of(measured)}{beside}"

    return [
        f"{count(measured.seeds, 'seed')}, {count(measured.depth, 'block')}",
        both("gradient first/last block", lambda signals: number(signals.gradient_ratio)),
        both("gradient exponent", lambda signals: exponent(signals.gradient_exponent)),
        both("angle exponent", lambda signals: exponent(signals.angle_exponent)),
    ]


def _bar(value: float | None, spread: float | None) -> Ends | None:
    if not _drawn(value) or spread is None or not math.isfinite(spread):
        return None
    return _ends((value / 10**spread, value * 10**spread))


def _ends(pair: Ends | None) -> Ends | None:
    return None if pair is None else (max(pair[0], _LEAST), min(pair[1], _MOST))


def _number(value: float | None) -> float | None:
    return value if _drawn(value) else None


def _drawn(value: float | None) -> TypeGuard[float]:
    return value is not None and _LEAST <= value <= _MOST
