"""SL906: samples or tokens that the model cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signal, Signals
from stablelint.signals.signals import near_threshold
from stablelint.symptoms.uncertainty import capped, facts, near


@rule(
    code="SL906",
    summary="different samples or tokens look the same to the model, so it can only learn one answer for all",
)
def similarity_collapse(
    signals: Signals, *, error_below: float = 1e-3, token_error_below: float = 1e-8
) -> Iterator[Hit]:
    """Compare what single samples teach the weights, and how far the tokens of one sample have come together.

    A centred tangent kernel below 1e-3 of the whole means that after scaling by Adam 99.9% of every step
    moves all outputs alike (Xiao et al. 2020, arXiv:1912.13053; the threshold is from `scripts/calibrate.py`).
    Tokens collapse doubly exponentially with depth in attention without skips (Dong et al. 2021,
    arXiv:2103.03404).
    """
    trunk = signals.trunk
    apart = signals.discrimination
    doubt = None if apart is None else near_threshold(apart, error_below, signals.margins.get("discrimination"))
    if apart is not None and trunk and (apart < error_below or doubt):
        alike = [row for row in trunk if row.similarity is not None and 1 - row.similarity < error_below]
        place = alike[0] if alike else trunk[0]
        yield Hit(
            place.site,
            f"different samples teach the weights the same to within {apart:.1e} (tangent kernel, centred over whole)"
            + near(error_below, doubt, signals),
            fix="lead the signal past the layers that flatten it (skip connections, normalisation, larger weights)",
            facts={"discrimination": apart, **facts(doubt)},
            span=(trunk[0].op, trunk[-1].op),
            modules=(place.site.module,),
            level=capped(Level.ERROR, doubt),
        )
    tokens = [row for row in trunk if row.token_similarity is not None]
    if len(tokens) > 1 and _between_tokens(tokens[-1]) < token_error_below:
        different = max(tokens, key=_between_tokens)
        if _between_tokens(different) < 0.1:
            return
        after = tokens[tokens.index(different) :]
        place = next(row for row in after if _between_tokens(row) < token_error_below)
        yield Hit(
            place.site,
            f"the tokens of a sample have become one: {max(_between_tokens(tokens[-1]), 1e-16):.1e} of the variance at "
            f"the output is between them ({_between_tokens(different):.2f} at {different.label})",
            fix="keep a residual path around attention and feed-forward layers",
            facts={"token_similarity": tokens[-1].token_similarity},
            span=(different.op, tokens[-1].op),
            modules=(place.site.module,),
            level=Level.ERROR,
        )


def _between_tokens(row: Signal) -> float:
    """Share of the variance that lies between the tokens of a sample."""
    return 1 - (row.token_similarity or 0.0)
