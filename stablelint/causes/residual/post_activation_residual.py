"""SL202: an activation after the addition of many residual blocks."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit
from stablelint.graph import Graph, Op
from stablelint.graph.families import ACTIVATIONS, RESHAPES
from stablelint.graph.residuals import Residual
from stablelint.rule import rule


@rule(
    code="SL202",
    summary="an activation after the addition of every residual block in a deep stack",
    predicts=("exploding-gradient", "vanishing-gradient", "dead-units"),
)
def post_activation_residual(graph: Graph, *, min_blocks: int = 10, min_normalised_blocks: int = 40) -> Iterator[Hit]:
    """Count the blocks whose sum goes through an activation before the next block reads it."""
    for normalised, least in ((False, min_blocks), (True, min_normalised_blocks)):
        run = max(_runs(graph, normalised=normalised), key=len)
        if len(run) < least:
            continue
        joins = f"{len(run)} residual blocks apply {run[0][1].name} after the addition"
        consequence = (
            "the stream can only grow, by one branch per block"
            if normalised
            else "and nothing normalises the branch: the stream cannot shrink and no identity path is left"
        )
        for residual, activation in run:
            yield Hit(
                activation.site,
                f"{joins}, {consequence}" if normalised else f"{joins} {consequence}",
                fix="move the activation (and a norm) into the branch: x + f(act(norm(x)))",
                facts={"blocks": len(run), "normalised": normalised},
                span=(run[0][0].fork.index, residual.join.index, run[-1][1].index),
                modules=(activation.site.module,),
            )


def _runs(graph: Graph, *, normalised: bool) -> list[list[tuple[Residual, Op]]]:
    """Blocks in a row with an activation after the sum; one without, and a projection shortcut, end a run."""
    runs: list[list[tuple[Residual, Op]]] = [[]]
    for residual in graph.residuals():
        activation = _activation(graph, residual.join)
        if activation is None or any(graph.weighted(op) for op in residual.skip):
            runs.append([])
            continue
        # a branch that starts at zero (Fixup, ReZero, SkipInit) adds nothing that could grow
        starts_at_zero = any(graph.muted(op) for op in residual.branch)
        if not starts_at_zero and _ends_in_norm(graph, residual) is normalised:
            runs[-1].append((residual, activation))
    return runs


def _activation(graph: Graph, join: Op) -> Op | None:
    """The activation that alone reads a sum."""
    users = [user for user in graph.users(join) if user.index in graph.flow.signal]
    return users[0] if len(users) == 1 and users[0].name in ACTIVATIONS else None


def _ends_in_norm(graph: Graph, residual: Residual) -> bool:
    """Whether the last op of the branch that changes values is a norm."""
    for op in reversed(residual.branch):
        if op.index in graph.norms:
            return True
        if op.name not in RESHAPES | {"dropout", "mul", "add"}:
            return False
    return False
