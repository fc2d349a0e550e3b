"""From the recorded run to the graph that rules read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stablelint.graph.graph import Graph
from stablelint.graph.op import Op, Parameter
from stablelint.trace.draft import Draft


def to_graph(
    drafts: Sequence[Draft], outputs: Sequence[int], parameters: Mapping[str, Parameter], *, training: bool = True
) -> Graph:
    """One op per recorded node, in the same order."""
    live = _reaching(drafts, outputs)
    ops = tuple(
        Op(
            index=index,
            name=draft.name,
            inputs=draft.inputs,
            attrs=draft.attrs,
            shape=draft.shape,
            dtype=draft.dtype,
            site=draft.site,
            scope=draft.scope,
            calls=draft.calls,
            types=draft.types,
            parameter=parameters.get(draft.attrs["name"]) if draft.name == "parameter" else None,
            known=draft.known,
            inplace=draft.inplace,
            guessed=draft.guessed,
            differentiable=draft.differentiable,
            live=index in live,
        )
        for index, draft in enumerate(drafts)
    )
    return Graph(ops, tuple(outputs), tuple(parameters.values()), training)


def _reaching(drafts: Sequence[Draft], outputs: Sequence[int]) -> set[int]:
    live = set(outputs)
    pending = list(live)
    while pending:
        fresh = set(drafts[pending.pop()].inputs) - live
        live |= fresh
        pending.extend(fresh)
    return live
