"""SL101: sigmoids in a row."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.graph import Graph
from stablelint.rule import rule


@rule(
    code="SL101",
    summary="squashing activations in a row, each of which multiplies the gradient by at most a quarter",
    predicts="vanishing-gradient",
    level=Level.NOTE,
)
def deep_sigmoid_chain(graph: Graph, *, min_length: int = 4, max_decades: float = 2.0) -> Iterator[Hit]:
    """Read the chains that no skip connection avoids and no norm rescales."""
    for chain in graph.squashing_chains():
        if len(chain.ops) >= min_length and chain.decades <= -max_decades:
            name = chain.ops[0].name
            bound = 10 ** max(chain.decades, -300.0)
            yield Hit(
                chain.ops[0].site,
                f"{len(chain.ops)} {name}s in a row with no norm or skip between them; with these weights they "
                f"multiply the gradient by at most {bound:.1e}",
                fix=f"replace {name} by ReLU, GELU or SiLU in hidden layers, or normalise before each",
                facts={"length": len(chain.ops), "bound": bound},
                span=tuple(op.index for op in chain.ops),
                modules=tuple(op.site.module for op in chain.ops),
            )
