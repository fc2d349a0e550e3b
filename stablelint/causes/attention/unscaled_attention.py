"""SL401: attention scores that nothing scales."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stablelint.finding import Hit
from stablelint.graph import Graph
from stablelint.rule import rule


@rule(
    code="SL401",
    summary="softmax over query-key products that nothing scales by 1/sqrt(d)",
    predicts="saturated-attention",
)
def unscaled_attention(graph: Graph, *, min_excess: float = 3.5, min_logit_std: float = 2.0) -> Iterator[Hit]:
    """Compare the factor between the projections and the softmax with 1/sqrt(head dimension)."""
    for attention in graph.attentions():
        excess = abs(attention.scale) * math.sqrt(attention.head_dim)
        if attention.learned_scale or excess < min_excess or attention.logit_std < min_logit_std:
            continue
        done = f"{attention.scale:.3g} multiplies them" if attention.scales_scores else "nothing scales them"
        given = "if q and k have unit variance" if attention.assumed else "for unit-variance inputs and these weights"
        yield Hit(
            attention.scores.site,
            f"scores are sums of {attention.head_dim} products and {done} (logits of std "
            f"{attention.logit_std:.2g} {given})",
            fix=f"multiply by 1/sqrt({attention.head_dim}) before the softmax",
            facts={"head_dim": attention.head_dim, "scale": attention.scale, "logit_std": attention.logit_std},
            span=(attention.scores.index, attention.softmax.index),
            modules=(attention.scores.site.module,),
        )
