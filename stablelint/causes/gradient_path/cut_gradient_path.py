"""SL801: values that go on to the output and leave the gradient behind."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.graph import Cut, Graph
from stablelint.rule import rule


@rule(
    code="SL801",
    summary="an op without a gradient, or one under no_grad, on the only way from trainable parameters to the output",
    predicts="zero-gradient",
    level=Level.NOTE,
)
def cut_gradient_path(graph: Graph) -> Iterator[Hit]:
    """Name each op that ends the way back to parameters which no other way reaches."""
    for cut in graph.cuts:
        count = len(cut.parameters)
        who = cut.parameters[0] if count == 1 else f"{cut.parameters[0]} and {count - 1} more"
        yield Hit(
            cut.site,
            f"{_how(graph, cut)}: {who} ({cut.elements} elements, {cut.share:.0%} of all) can never be trained",
            fix=_fix(graph, cut),
            facts={"op": cut.name, "parameters": count, "elements": cut.elements, "share": cut.share},
            span=(cut.op,),
            modules=(cut.site.module,),
        )


def _how(graph: Graph, cut: Cut) -> str:
    op = graph.ops[cut.op]
    if not op.differentiable:
        return f"{cut.name} runs with autograd off (no_grad)"
    if cut.name == "detach":
        return "detach leaves the gradient behind"
    if not op.floating:
        return f"{cut.name} turns real numbers into {op.dtype}, which has no derivative"
    return f"{cut.name} is flat wherever it has a derivative"


def _fix(graph: Graph, cut: Cut) -> str:
    if cut.shields:
        return "say requires_grad_(False) if they are to stay as they are, else leave autograd on"
    if not graph.ops[cut.op].differentiable:
        return "leave autograd on for what depends on parameters; no_grad is for constants"
    if cut.name == "detach":
        return "remove it, or say requires_grad_(False) in front of it"
    return "use a relaxation (softmax, Gumbel-softmax) or a straight-through estimate: x + (hard(x) - x).detach()"
