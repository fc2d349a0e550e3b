"""What a model repeats: blocks of one structure in a row, and steps of one block in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stablelint.graph.calls import ModuleCall

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Distances between equal items that are tried as a period: those of a loop body are as frequent as its ops.
_PERIODS = 16
#: Blocks from which on it helps to say which one it is.
_FEW = 3
_LEAVES = frozenset({"input", "parameter", "constant"})

Item = int | ModuleCall


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """Units of one structure in a row: equal ops of equal shapes on equal lines, equal calls of equal modules.

    ``kind`` is the class of the modules that are called once per unit ("" where ops alone repeat, as in a loop over a
    list of weights), ``units`` the first and last op of each, ``paths`` their modules ("" without one). ``shared``
    says that all units read the same weights, ``series`` that each reads the one before it: blocks in depth, or with
    shared weights steps in time. Towers, experts and siamese calls are side by side.
    """

    kind: str
    units: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]
    shared: bool
    series: bool

    @property
    def count(self) -> int:
        """How often the unit runs."""
        return len(self.units)


def find_repeats(graph: Graph) -> tuple[Repeat, ...]:
    """All runs of equal units with weights, outer ones before what repeats inside them."""
    signatures: dict[Hashable, int] = {}
    labels: dict[ModuleCall, int] = {}
    for call in _inner_first(graph.calls):
        key = (call.kind, *(_label(graph, item, labels, signatures) for item in _items(graph, call)))
        labels[call] = signatures.setdefault(key, len(signatures))
    found = []
    for call in reversed(list(_inner_first(graph.calls))):
        items = _items(graph, call)
        tokens = [_label(graph, item, labels, signatures) for item in items]
        for start, period, count in _runs(tokens):
            units = [items[at : at + period] for at in range(start, start + count * period, period)]
            repeat = _repeat(graph, units)
            if repeat is not None:
                found.append(repeat)
    return tuple(sorted(found, key=lambda each: (each.units[0][0], -each.units[-1][1])))


def find_places(repeats: Sequence[Repeat]) -> Mapping[int, str]:
    """For each op which unit of how many it belongs to, of the outermost units in series: "block 7 of 24"."""
    places: dict[int, str] = {}
    for repeat in (each for each in repeats if each.series and each.count >= _FEW):
        word = "step" if repeat.shared else "block"
        for number, (first, last) in enumerate(repeat.units, start=1):
            if first not in places:
                places.update(dict.fromkeys(range(first, last + 1), f"{word} {number} of {repeat.count}"))
    return places


def _inner_first(call: ModuleCall) -> Iterator[ModuleCall]:
    """All calls, each after those that it makes."""
    waiting, order = [call], []
    while waiting:
        current = waiting.pop()
        order.append(current)
        waiting.extend(item for item in current.items if isinstance(item, ModuleCall))
    return reversed(order)


def _items(graph: Graph, call: ModuleCall) -> list[Item]:
    """What a call runs; leaves are recorded where they are read first and belong to no unit."""
    return [item for item in call.items if isinstance(item, ModuleCall) or graph.ops[item].name not in _LEAVES]


def _label(graph: Graph, item: Item, labels: Mapping[ModuleCall, int], signatures: dict[Hashable, int]) -> int:
    """A number that equal items share."""
    if isinstance(item, ModuleCall):
        return labels[item]
    op = graph.ops[item]
    return signatures.setdefault((op.name, op.shape, op.dtype, op.site.line_key), len(signatures))


def _runs(tokens: Sequence[int]) -> list[tuple[int, int, int]]:
    """Start, period and count of the longest tandem repeats that share no token."""
    last: dict[int, int] = {}
    distances: Counter[int] = Counter()
    for place, token in enumerate(tokens):
        if token in last:
            distances[place - last[token]] += 1
        last[token] = place
    found = []
    for period, _ in distances.most_common(_PERIODS):
        length = 0
        for place in range(period, len(tokens) + 1):
            if place < len(tokens) and tokens[place] == tokens[place - period]:
                length += 1
                continue
            if length >= period:
                found.append((place - length - period, period, length // period + 1))
            length = 0
    taken: set[int] = set()
    kept = []
    for start, period, count in sorted(found, key=lambda run: (-run[1] * run[2], run[1], run[0])):
        covered = range(start, start + period * count)
        if taken.isdisjoint(covered):
            taken.update(covered)
            kept.append((start, period, count))
    return sorted(kept)


def _repeat(graph: Graph, units: Sequence[Sequence[Item]]) -> Repeat | None:
    """The repeat of these units; None when they hold no weights."""
    spans = tuple((_first(unit[0]), _last(unit[-1])) for unit in units)
    weights = [_weights(graph, span) for span in spans[:2]]
    if not weights[0]:
        return None
    calls = [[item for item in unit if isinstance(item, ModuleCall)] for unit in units]
    kinds = dict.fromkeys(call.kind for call in calls[0])
    paths = tuple(unit[0].path if unit else "" for unit in calls)
    return Repeat(", ".join(kinds), spans, paths, weights[0] == weights[1], _reads(graph, *spans[:2]))


def _first(item: Item) -> int:
    return item.first if isinstance(item, ModuleCall) else item


def _last(item: Item) -> int:
    return item.last if isinstance(item, ModuleCall) else item


def _reads(graph: Graph, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether an op of one unit reads a result of the other."""
    inputs = (index for at in range(after[0], after[1] + 1) for index in graph.ops[at].inputs)
    return any(before[0] <= index <= before[1] and graph.ops[index].name not in _LEAVES for index in inputs)


def _weights(graph: Graph, span: tuple[int, int]) -> frozenset[int]:
    """The parameters that the ops of a unit read."""
    leaves = (index for at in range(span[0], span[1] + 1) for index in graph.ops[at].inputs)
    return frozenset(index for index in leaves if graph.ops[index].name == "parameter")
