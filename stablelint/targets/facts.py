"""What the source of a forward pass tells of one of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import nn

#: From the shape that a layer is fed to that of the argument; None where the layer cannot be fed so.
Undo = Callable[[tuple[int, ...]], tuple[int, ...] | None]


@dataclass(frozen=True)
class Feed:
    """The argument reaches a layer as its argument ``position``, after steps that ``undo`` takes back, last first."""

    layer: nn.Module
    position: int
    undo: tuple[Undo, ...] = ()
    #: Features that stand beside the argument in a concatenation, and all arguments in it.
    beside: int = 0
    mates: tuple[Facts, ...] = ()


@dataclass(eq=False)
class Facts:
    """All that is told of one argument.

    ``ranks`` are numbers of axes, likeliest first, ``least`` the smallest that can be; ``sizes`` and ``factors`` give
    the size of an axis, or what it must be a multiple of, by position (negative ones count from the end).
    ``elements`` is what one sample is reshaped to. ``uses`` holds: "index", "float", "compared", "none" (it may be
    None), "number" (a Python number), "lengths", "classes" and "chances" (targets of a loss), "open_ones",
    "open_false" and "open_zeros" (a mask, by what leaves all open), "looped", "pair" (unpacked), "pattern".
    """

    feeds: list[Feed] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    least: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    factors: dict[int, int] = field(default_factory=dict)
    shapes: list[tuple[int | None, ...]] = field(default_factory=list)
    elements: list[int] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    keys: dict[str, Facts] = field(default_factory=dict)
    items: dict[int, Facts] = field(default_factory=dict)
    table: int | None = None
    axis_names: tuple[str, ...] = ()

    @property
    def rank(self) -> int | None:
        """The number of axes, when anything tells it."""
        return self.ranks[0] if self.ranks else None

    def told(self) -> bool:
        """Whether the source tells anything of its shape or layers."""
        return bool(self.feeds or self.ranks or self.least > 1 or self.sizes or self.shapes or self.elements)


@dataclass(frozen=True)
class Ref:
    """A value in the source that is an argument, after steps that keep its elements in their order of axes."""

    facts: Facts
    undo: tuple[Undo, ...] = ()

    def after(self, step: Undo) -> Ref:
        """The value after a step that ``step`` takes back."""
        return replace(self, undo=(*self.undo, step))


@dataclass(frozen=True)
class Known:
    """An object that the model or its file holds."""

    value: object


@dataclass(frozen=True)
class Shape:
    """The shape of a value."""

    of: Ref


@dataclass(frozen=True)
class Tail:
    """The shape of a value from one axis on."""

    of: Ref
    start: int


@dataclass(frozen=True)
class Size:
    """The size of one axis of an argument."""

    facts: Facts
    axis: int


@dataclass(frozen=True)
class Features:
    """A computed tensor of which the number of features, in the last axis, is known."""

    count: int


@dataclass(frozen=True)
class Joined:
    """Values side by side."""

    parts: tuple[object, ...]


@dataclass(frozen=True)
class Many:
    """Several values in a Python container."""

    parts: tuple[object, ...]


def without_axis(axis: int) -> Undo:
    """Takes back an ``unsqueeze``."""

    def undo(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        at = axis if axis >= 0 else len(shape) + axis
        return shape[:at] + shape[at + 1 :] if 0 <= at < len(shape) else None

    return undo


def with_axis(axis: int, size: int) -> Undo:
    """Takes back the choice of one index, or a mean, along an axis; the axis gets ``size``."""

    def undo(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        at = axis if axis >= 0 else len(shape) + 1 + axis
        return (*shape[:at], size, *shape[at:]) if 0 <= at <= len(shape) else None

    return undo


def permuted(order: tuple[int, ...]) -> Undo:
    """Takes back a ``permute``."""

    def undo(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        places = [axis % len(order) for axis in order]
        if len(shape) != len(order) or sorted(places) != list(range(len(order))):
            return None
        found = dict(zip(places, shape, strict=True))
        return tuple(found[axis] for axis in range(len(order)))

    return undo


def swapped(first: int, second: int) -> Undo:
    """Takes back a ``transpose``."""

    def undo(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        rank = len(shape)
        if not (-rank <= first < rank and -rank <= second < rank):
            return None
        found = list(shape)
        found[first], found[second] = found[second], found[first]
        return tuple(found)

    return undo


def of_rank(rank: int) -> Undo:
    """Takes back a flattening of what is flat already."""
    return lambda shape: shape if len(shape) == rank else None


def taken_back(shape: tuple[int, ...], undo: tuple[Undo, ...]) -> tuple[int, ...] | None:
    """The shape of the argument when a layer behind the steps is fed ``shape``."""
    found: tuple[int, ...] | None = shape
    for step in reversed(undo):
        if found is None:
            return None
        found = step(found)
    return found


def axis_of(ref: Ref, axis: int, rank: int) -> int | None:
    """The axis of the argument that is axis ``axis`` of a value with ``rank`` axes; None when it is of no one."""
    if not ref.undo:
        return axis
    marks = tuple(range(-1, -rank - 1, -1))
    back = taken_back(marks, ref.undo)
    mark = marks[axis] if -rank <= axis < rank else None
    return back.index(mark) if back is not None and mark in back else None


def tell_rank(ref: Ref, rank: int) -> None:
    """A value has this number of axes."""
    back = taken_back(tuple(range(-1, -rank - 1, -1)), ref.undo)
    if back is not None and len(back) not in ref.facts.ranks:
        ref.facts.ranks.append(len(back))


def tell_least(ref: Ref, rank: int) -> None:
    """A value has at least this number of axes."""
    back = taken_back(tuple(range(-1, -rank - 1, -1)), ref.undo)
    if back is not None:
        ref.facts.least = max(ref.facts.least, len(back))


def tell_size(ref: Ref, axis: int, size: int, *, rank: int = 0) -> None:
    """An axis of a value has this size."""
    place = axis_of(ref, axis, rank or ref.facts.rank or 0)
    if place is not None and size > 0:
        ref.facts.sizes.setdefault(place, size)
