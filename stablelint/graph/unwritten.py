"""Parameters whose memory nobody filled, and the ops that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stablelint.graph.families import SHAPE_ONLY
from stablelint.graph.op import Op

if TYPE_CHECKING:
    from stablelint.graph.graph import Graph

#: Give values to all of their first operand, whatever it held. A part may do: layers that initialise themselves from
#: the first batch write gain and shift in turn.
_FILLS = frozenset({"copy", "fill", "zero", "setitem", "normal", "uniform", "trunc_normal", "index_copy", "set"})


def find_unwritten(graph: Graph) -> Mapping[str, tuple[Op, ...]]:
    """The parameters without initial values, by name, each with the ops at which its content meets the data.

    Those that the forward pass fills before it reads them (initialisation from the first batch) are left out;
    buffers are no parameters, for caches are filled when they are used. What no op reads has none.
    """
    names = {each.name for each in graph.parameters if each.init == "empty" and not each.buffer and each.numel}
    if not names:
        return {}
    holds: dict[int, frozenset[str]] = {}
    filled: set[str] = set()
    readers: dict[str, list[Op]] = {}
    for op in graph:
        if op.parameter is not None and op.name == "parameter":
            holds[op.index] = frozenset({op.parameter.name} & names)
            continue
        content = frozenset[str]().union(*(holds.get(index, frozenset()) for index in op.inputs))
        if not content or op.name in SHAPE_ONLY:
            continue
        if op.inplace and op.name in _FILLS and op.inputs[0] in holds and not graph.is_data(graph.ops[op.inputs[0]]):
            filled |= holds[op.inputs[0]]
        elif not graph.is_data(op):
            holds[op.index] = content
        elif op.live:
            for name in content:
                readers.setdefault(name, []).append(op)
    return {name: tuple(readers.get(name, ())) for name in sorted(names - filled)}
