"""Growth per block along the trunk, and the place where the gradient leaves its healthy size.

Exponents are in nats per block: ``exp`` of one is the factor of one block. That is the unit of Lyapunov exponents and
of the closed forms (a sigmoid loses at least ln 4 per layer); ratios and H stay in decades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Points = Sequence[tuple[int, float | None]]

#: Below this, what distinguishes two inputs is rounding: float32 keeps 1e-14 of the power of a difference, and the
#: kernels of the prediction are quadratures.
LEAST_DISSIMILARITY = 1e-10
#: A gradient within this factor of the last block's has not broken: 70 released architectures but for one lie within
#: 10**-2.1 and 10**1.7.
INTACT = 1e3
#: One block that does half of it, on the log scale, is the place; else it is where the factor is passed.
_ALONE = 0.5


def gradient_exponent(gradients: Points) -> float | None:
    """Growth of log gradient rms per block on its way back to the input; 0 keeps it, negative vanishes.

    ``gradients`` are block numbers with the rms that leaves the block, from input to output. Only the blocks that a
    finite gradient above 0 reaches count, from the output back. None where those are fewer than two.
    """
    reached: list[tuple[float, float]] = []
    for block, size in reversed(gradients):
        if size is None:
            continue
        if not 0 < size < math.inf:
            break
        reached.append((-block, math.log(size)))
    return slope(reached)


def angle_exponent(dissimilarities: Points) -> float | None:
    """Growth of log dissimilarity of two inputs per block towards the output; strongly negative is collapse.

    ``dissimilarities`` are 1 - similarity by block number. Blocks from the first on where nothing but rounding is left
    (:data:`LEAST_DISSIMILARITY`) do not count; where that is the second already, it has at most this value. None for
    fewer than two blocks.
    """
    apart: list[tuple[float, float]] = []
    for block, value in dissimilarities:
        if value is None or math.isnan(value):
            continue
        lost = value <= LEAST_DISSIMILARITY
        if not lost or len(apart) < 2:
            apart.append((block, math.log(max(value, LEAST_DISSIMILARITY))))
        if lost:
            break
    return slope(apart)


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The least-squares slope of y over x; None for fewer than two points.

    End points alone would let the stem and the head decide, which are the two blocks unlike all others. Where each
    of n blocks deviates by itself with variance s, this slope varies by 12 s/n**3 and that of the end points by
    2 s/n**2; where deviations add up from block to block it varies by 6/5 of theirs, so little is lost.
    """
    if len({x for x, _ in points}) < 2:
        return None
    mean_x = math.fsum(x for x, _ in points) / len(points)
    mean_y = math.fsum(y for _, y in points) / len(points)
    across = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
    return across / math.fsum((x - mean_x) ** 2 for x, _ in points)


def breaks(gradients: Points) -> tuple[int, float] | None:
    """The block where the product of the blocks' factors breaks on its way back, and the factor there.

    None while the gradient stays within :data:`INTACT` of the last block's. Else, on the way from the output to the
    block whose gradient is farthest from the last one's: the block with the largest factor in that direction, if it
    does half of it; or, if the change is spread, the block at which the gradient passes INTACT. The factor is that of
    the block alone: the gradient that leaves it backwards over the one that comes in. It is 0 or infinite where the
    gradient ends.
    """
    way = [(block, _log(size)) for block, size in reversed(gradients) if size is not None]
    if len(way) < 2 or math.isinf(way[0][1]):
        return None
    last = way[0][1]
    farthest = max(range(len(way)), key=lambda index: abs(way[index][1] - last))
    total = way[farthest][1] - last
    if abs(total) <= math.log(INTACT):
        return None
    sign = math.copysign(1.0, total)
    # what leaves the output of one block is multiplied by that block before it leaves the one in front
    steps = [(behind[0], ahead[1] - behind[1]) for behind, ahead in pairwise(way[: farthest + 1])]
    block, step = max(steps, key=lambda each: sign * each[1])
    if sign * step < _ALONE * abs(total):
        block, step = next(
            each for each, ahead in zip(steps, way[1:], strict=False) if sign * (ahead[1] - last) > math.log(INTACT)
        )
    return block, math.exp(step) if step < 700 else math.inf


def off(sensitivity: float, *, growing: bool) -> bool:
    """Whether a sensitivity is :data:`INTACT` times too large, or too small; what is not finite is too large."""
    if not math.isfinite(sensitivity):
        return growing
    return sensitivity > INTACT if growing else sensitivity < 1 / INTACT


def largest_step(gradients: Sequence[float], *, growing: bool) -> int:
    """The index of the op, of several in a row, that multiplies the gradient most (or least) on its way back.

    An op's factor is the gradient in front of it over the one behind it; the first is there to be compared with.
    """
    logs = [_log(size) for size in gradients]
    steps = [ahead - behind if ahead != behind else 0.0 for ahead, behind in pairwise(logs)]
    best = max(range(len(steps)), key=lambda index: steps[index] if growing else -steps[index])
    return best + 1


def _log(size: float) -> float:
    """ln of a gradient; what is not finite counts as infinite."""
    if size == 0:
        return -math.inf
    return math.log(size) if math.isfinite(size) else math.inf
