"""SL102: a probability, or another bounded value, where a loss takes a logit."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.graph import Graph
from stablelint.rule import rule

_TITLES = {"bce_with_logits": "binary_cross_entropy_with_logits"}


@rule(
    code="SL102",
    summary="a bounded output in front of a loss that takes logits and squashes them itself",
    predicts="saturated-activation",
)
def squashed_logits(graph: Graph) -> Iterator[Hit]:
    """Look at what the losses of logits read, in the model and in the loss that was given with it."""
    for found in graph.squashed:
        name, loss = found.op.name, _TITLES.get(found.loss.name, found.loss.name)
        floor = "the loss keeps away from 0, however sure the answers are"
        if found.least is not None:
            of = "the loss of a negative" if found.one_sided else "the loss"
            floor = f"{of} cannot fall below {found.least:.2f} ({found.chance:.2f} is chance)"
        yield Hit(
            found.op.site,
            f"{loss} takes the results of {name} for logits and squashes them again: {floor}",
            fix=f"return what goes into the {name}, and apply it outside of the loss only",
            facts={"least": found.least, "chance": found.chance, "loss": loss},
            # ops of a loss that was given have numbers of their own, which no symptom's mean
            span=() if found.inside else (found.op.index,),
            level=Level.WARNING if found.inside else None,
            modules=(found.op.site.module,),
        )
