"""Module calls as a tree: which ops belong to which call of which module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module; the root, of path "" and no kind, holds the whole trace.

    ``number`` counts the calls of the module at ``path`` from 0, ``kind`` is its class. ``items`` are, in execution
    order, the indices of the ops that it ran itself and the calls that it made; all its ops lie in
    ``first <= index <= last`` and no others do.
    """

    path: str
    number: int
    kind: str
    first: int
    last: int
    items: tuple[int | ModuleCall, ...]


class _Open:
    """A call that has not returned yet."""

    def __init__(self, path: str, number: int, kind: str, first: int) -> None:
        self.key = (path, number)
        self.kind = kind
        self.first = first
        self.items: list[int | ModuleCall] = []

    def closed(self, last: int) -> ModuleCall:
        return ModuleCall(*self.key, self.kind, self.first, last, tuple(self.items))


def find_calls(graph: Graph) -> ModuleCall:
    """The tree of calls, in one pass over the ops."""
    stack = [_Open("", 0, "", 0)]
    for op in graph:
        keys = list(zip(op.scope, op.calls, strict=True))
        kept = 0
        while kept < min(len(keys), len(stack) - 1) and stack[kept + 1].key == keys[kept]:
            kept += 1
        _close(stack, kept, op.index - 1)
        stack.extend(_Open(*keys[depth], op.types[depth], op.index) for depth in range(kept, len(keys)))
        stack[-1].items.append(op.index)
    _close(stack, 0, len(graph) - 1)
    return stack[0].closed(len(graph) - 1)


def _close(stack: list[_Open], depth: int, last: int) -> None:
    """Return from all calls deeper than ``depth``."""
    while len(stack) > depth + 1:
        done = stack.pop()
        stack[-1].items.append(done.closed(last))
