"""Curvature and step sizes of one model: a small table for people, plain data for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from stablelint.report.numbers import number
from stablelint.report.table import table
from stablelint.report.words import INDENT, Paint, plain, wrap
from stablelint.signals.curvature import BlockSpectrum, Curvature, warmup

Row = tuple[str, str, str]


def render_curvature(
    name: str,
    found: Curvature,
    width: int = 80,
    colour: bool = False,
    *,
    learning_rate: float | None = None,
    clip: float | None = None,
) -> str:
    """First what the figures are for, then one row for each quantity and one for each block.

    With a ``learning_rate`` also the warm-up that it needs, with a threshold ``clip`` a warning when it is too low.
    """
    paint = Paint(colour)
    head = f"{plain(name)}: curvature and steps for the {found.loss.removeprefix('the ')}"
    lines = [paint(line, "place") for line in wrap(head, width, first="")]
    rows = [*_hessian(found), *_warmup(found, learning_rate), *_samples(found), *_norms(found)]
    label = max((len(row[0]) for row in rows), default=0)
    size = max((len(row[1]) for row in rows), default=0)
    for what, value, rest in rows:
        lines += _row(f"{INDENT}{what.ljust(label)}  {value.rjust(size)}", rest, width)
    lines += _blocks(found.blocks, width, paint)
    warning = found.norms.warning(clip) if found.norms is not None and clip is not None else None
    if warning:
        lines += [paint(line, "warning") for line in wrap(warning, width)]
    for remark in found.remarks:
        lines += [paint(line, "dim") for line in wrap(remark, width)]
    return "".join(f"{line}\n" for line in lines)


def curvature_data(
    found: Curvature, *, learning_rate: float | None = None, clip: float | None = None
) -> dict[str, Any]:
    """The same as plain data: the fields of the dataclasses and what is derived from them; no matrices."""
    data = asdict(found)
    if found.hessian is not None:
        data["hessian"] |= {
            "max_learning_rate": found.hessian.max_learning_rate(),
            "condition": found.hessian.condition,
        }
        if learning_rate is not None:
            data["warmup"] = asdict(warmup(found.hessian, learning_rate))
    if found.noise is not None:
        noise = found.noise
        data["noise"] |= {"batch": noise.batch, "resolved": noise.resolved, "at_least": noise.at_least}
    if found.agreement is not None:
        del data["agreement"]["samples"], data["agreement"]["between_layers"]
        data["agreement"]["mean_layer_cosine"] = found.agreement.mean_layer_cosine
    if found.norms is not None:
        norms = found.norms
        data["norms"] |= {"median": norms.median, "p95": norms.percentile(95), "p99": norms.percentile(99)}
        if clip is not None:
            data["norms"]["warning"] = norms.warning(clip)
    return data


def _hessian(found: Curvature) -> Iterator[Row]:
    hessian = found.hessian
    if hessian is None:
        return
    rest = f"smallest {number(hessian.smallest)}, mean size {number(hessian.mean_absolute)}"
    yield "largest Hessian eigenvalue", number(hessian.largest), rest
    if hessian.condition is not None:
        yield "condition", number(hessian.condition), "largest eigenvalue over the mean size"
    rest = f"of gradient descent; {number(hessian.max_learning_rate(0.9))} with momentum 0.9"
    yield "largest stable learning rate", number(hessian.max_learning_rate()), rest


def _warmup(found: Curvature, learning_rate: float | None) -> Iterator[Row]:
    if found.hessian is None or learning_rate is None:
        return
    needed = warmup(found.hessian, learning_rate)
    rest = f"steps to {number(learning_rate)}, which is {number(needed.ratio)} of the largest stable rate"
    if needed.steps:
        rest += f"; start at {number(needed.start)}"
    yield "warm-up", str(needed.steps), rest


def _samples(found: Curvature) -> Iterator[Row]:
    noise, agreement = found.noise, found.agreement
    if noise is not None:
        value, rest = number(noise.batch), "samples: larger batches save few steps"
        if not noise.resolved:
            value = f">{number(noise.at_least)}"
            rest = f"samples; {noise.groups * noise.group} are too few to tell a common gradient from noise"
        yield "gradient noise scale", value, rest
    if agreement is not None:
        count = len(agreement.samples)
        rest = f"between gradients of samples; {number(agreement.participation)} directions of {count}"
        yield "mean cosine", number(agreement.mean_cosine), rest
        if agreement.mean_layer_cosine is not None:
            rest = f"between what {len(agreement.layers)} layers tell apart"
            yield "mean cosine of layers", number(agreement.mean_layer_cosine), rest


def _norms(found: Curvature) -> Iterator[Row]:
    norms = found.norms
    if norms is not None:
        ends = f"{number(norms.percentile(95))} (95%) or {number(norms.percentile(99))} (99%)"
        yield "gradient norm", number(norms.median), f"median of {len(norms.norms)}; clip at {ends}"


def _row(start: str, rest: str, width: int) -> list[str]:
    """The explanation behind the value, wrapped below itself."""
    lines = wrap(rest, max(width - len(start) - 2, 20), first="", rest="")
    return [f"{start if at == 0 else ' ' * len(start)}  {line}" for at, line in enumerate(lines)]


def _blocks(blocks: tuple[BlockSpectrum, ...], width: int, paint: Paint) -> list[str]:
    if not blocks:
        return []
    rows = [
        [
            str(block.block),
            block.name,
            block.module,
            number(block.largest),
            number(block.smallest) if block.smallest is None or block.converged[1] else f"<{number(block.smallest)}",
            number(math.sqrt(block.mean_square)),
        ]
        for block in blocks
    ]
    header = ["block", "op", "module", "largest", "smallest", "rms"]
    title = paint(f"{INDENT}singular values of the Jacobian of each block", "dim")
    return ["", title, *table(header, rows, width, paint, right={0, 3, 4, 5}, shrink=(2, 1))]
