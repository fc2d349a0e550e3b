"""SL201: a norm between the fork of a residual block and its addition."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit
from stablelint.graph import Graph
from stablelint.rule import rule


@rule(
    code="SL201",
    summary="a normalisation on the skip path of residual blocks, so that no identity path is left",
    predicts="vanishing-gradient",
)
def norm_on_skip(graph: Graph, *, min_blocks: int = 4) -> Iterator[Hit]:
    """Look for norms among the ops of the skip path; a projection shortcut with its norm is left alone."""
    found = []
    for residual in graph.residuals():
        norms = [op for op in residual.skip if op.index in graph.norms]
        if norms and not any(graph.weighted(op) for op in residual.skip):
            found.append((residual, norms[0]))
    if len(found) < min_blocks:
        return
    for _, norm in found:
        yield Hit(
            norm.site,
            f"{norm.name.replace('_', ' ')} on the skip path of {len(found)} residual blocks divides the identity "
            "by its own size each time; the gradient loses its undamped way back",
            fix="add the block to the unnormalised value: x + f(norm(x))",
            facts={"blocks": len(found)},
            span=(found[0][0].fork.index, norm.index, found[-1][0].join.index),
            modules=(norm.site.module,),
        )
