"""SL905: attention that looks at one token."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.symptoms.uncertainty import capped, facts, near_share, within


@rule(
    code="SL905",
    summary="attention puts nearly all weight on one token before training, so queries and keys get no gradient",
)
def saturated_attention(
    signals: Signals, *, error_above: float = 0.95, warning_above: float = 0.7, min_excess: float = 3.0
) -> Iterator[Hit]:
    """Compare the mean largest weight of a row with that of uniform attention over the same tokens.

    The gradient through a softmax row scales with the weight that is not on the largest token; at 0.95 a twentieth
    is left. Of the networks of `scripts/calibrate.py` one with 0.91 trains easily, one with 0.97 hardly. Released
    architectures start below 0.4.
    """
    for row in signals.rows:
        if row.peak is None or row.uniform_peak is None:
            continue
        if row.peak > warning_above and row.peak > min_excess * row.uniform_peak:
            doubt = within(row.peak, error_above, row.margins.get("peak"))
            yield Hit(
                row.site,
                f"attention puts {row.peak:.2f} of its weight on one token (uniform: {row.uniform_peak:.2f})"
                + near_share(error_above, doubt, signals),
                fix="scale the scores by 1/sqrt(head dimension), or shrink the query and key weights or the embeddings",
                facts={"peak": row.peak, "uniform_peak": row.uniform_peak, "entropy": row.entropy, **facts(doubt)},
                span=(row.op,),
                modules=(row.site.module,),
                level=capped(Level.ERROR if row.peak > error_above else Level.WARNING, doubt),
            )
