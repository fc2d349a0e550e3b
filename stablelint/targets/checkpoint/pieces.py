"""Which parts of a tensor to read, so that no more than a few million elements are in memory at once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

Piece = tuple[slice, ...]

#: Elements up to which a tensor is read whole.
WHOLE = 1 << 22
#: Elements that are read of a larger one whose statistics are wanted: rms of normal values within 0.1%.
SAMPLE = 1 << 20
# Rows of a sample, as many as row_similarity compares, and runs along every further axis.
_ROWS, _RUNS = 256, 4


def tiles(shape: tuple[int, ...], most: int) -> Iterator[Piece]:
    """Pieces of at most ``most`` elements that cover a tensor, each once, in the order of its memory."""
    if math.prod(shape) <= most:
        yield ()
        return
    row = math.prod(shape[1:])
    length = max(1, most // row)
    for start in range(0, shape[0], length):
        first = slice(start, min(start + length, shape[0]))
        for rest in tiles(shape[1:], most) if row > most else ((),):
            yield (first, *rest)


def sample(shape: tuple[int, ...], most: int = SAMPLE) -> list[list[Piece]]:
    """Groups of pieces of together about ``most`` elements, spread over a tensor of more.

    A group lies in the same rows, and all groups in the same columns, so that rows can be compared. The places are
    drawn, one in each of as many equal intervals: every n-th row would meet the period of the heads.
    """
    draw = random.Random(0)
    count = min(shape[0], _ROWS)
    row = math.prod(shape[1:])
    columns = _spread(shape[1:], max(1, most // count), draw)
    length = max(1, most // count // row)
    return [[(rows, *rest) for rest in columns] for rows in _runs(shape[0], count, length, draw)]


def _spread(shape: tuple[int, ...], most: int, draw: random.Random) -> list[Piece]:
    if math.prod(shape) <= most:
        return [()]
    count = min(shape[0], _RUNS, most)
    rest = _spread(shape[1:], most // count, draw)
    length = max(1, most // count // math.prod(shape[1:]))
    return [(run, *each) for run in _runs(shape[0], count, length, draw) for each in rest]


def _runs(size: int, count: int, length: int, draw: random.Random) -> list[slice]:
    """``count`` runs of ``length``, one at a random place in each equal part of ``size``."""
    found = []
    for index in range(count):
        low, high = index * size // count, (index + 1) * size // count
        start = draw.randint(low, max(low, high - length))
        found.append(slice(start, min(start + length, high)))
    return found
