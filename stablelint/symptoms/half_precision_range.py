"""SL911: values that half precision cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Precision, Signals


@rule(
    code="SL911",
    summary="half precision cannot hold a value or gradient: it overflows, becomes 0 or is lost in a sum",
    deep=True,
)
def half_precision_range(
    signals: Signals, *, overflow_above: float = 0.0, underflow_above: float = 0.5, cosine_below: float = 0.5
) -> Iterator[Hit]:
    """Look at the worst op of each kind; only an overflow in the forward pass is more than a note.

    ``underflow_above`` is a share of a tensor's elements: a loss scale moves all gradients together, so what is lost
    at the best scale is lost. ``cosine_below`` compares the gradient of a bfloat16 pass with that of float32; a
    cosine of 0.5 leaves a quarter of the gradient's energy.
    """
    deep = signals.deep
    if deep is None:
        return
    over = [row for row in deep.precision if row.overflow > overflow_above]
    if over:
        worst = max(over, key=lambda row: row.largest)
        text = f"{worst.name} reaches {worst.largest:.2g}, and float16 ends at 65504"
        yield _hit(over, text, "use bfloat16 or scale the values down", Level.WARNING)
        return
    on_trunk = {row.op for row in signals.trunk}
    lost = [row for row in deep.precision if row.op in on_trunk and _lost(row) > underflow_above]
    if lost:
        worst = max(lost, key=_lost)
        share = _lost(worst)
        what = "values" if worst.underflow >= share else "gradient"
        text = f"{share:.0%} of the {what} of {worst.name} is 0 in float16 at the largest loss scale that fits"
        yield _hit(lost, text, "use bfloat16, or bring the layers to one scale", Level.NOTE)
    absorbed = [row for row in deep.precision if row.absorbed and row.op in on_trunk]
    if absorbed:
        text = f"one operand of {absorbed[0].name} is below 2^-9 of the other, so a bfloat16 sum loses it"
        yield _hit(absorbed, text, "keep the residual stream in float32, or start the branch larger", Level.NOTE)
    if deep.half is not None and deep.half.gradient_cosine is not None and deep.half.gradient_cosine < cosine_below:
        row = deep.precision[-1]
        text = f"the gradient of a bfloat16 pass has a cosine of {deep.half.gradient_cosine:.2f} with that of float32"
        yield _hit([row], text, "keep the sensitive layers in float32", Level.NOTE)


def _lost(row: Precision) -> float:
    return max(row.underflow, row.grad_underflow or 0.0)


def _hit(rows: list[Precision], text: str, fix: str, level: Level) -> Hit:
    return Hit(
        rows[0].site,
        text,
        fix=fix,
        facts={"ops": len(rows), "largest": max(row.largest for row in rows)},
        span=tuple(row.op for row in rows),
        modules=tuple(dict.fromkeys(row.site.module for row in rows)),
        level=level,
    )
