"""SL912: the output hangs on the size of the batch or on the mode."""

from __future__ import annotations

from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals
from stablelint.site import NOWHERE


@rule(
    code="SL912",
    summary="training on one sample fails, or the output in eval mode is far from that in train mode",
    deep=True,
)
def batch_dependence(signals: Signals, *, gap_above: float = 1.0) -> Iterator[Hit]:
    """Look at a training pass on one sample, and at the modes once running statistics are those of the batch.

    Dropout of p alone makes a relative difference of sqrt(p); more than 1 is a norm that behaves otherwise in eval
    mode.
    """
    modes = None if signals.deep is None else signals.deep.modes
    if modes is None:
        return
    if modes.single:
        site = modes.single_site or NOWHERE
        yield Hit(
            site,
            f"a training pass on 1 sample fails ({modes.single})",
            fix="drop the last, smaller batch of an epoch (drop_last=True), or use a norm that needs no batch",
            modules=(site.module,),
            level=Level.NOTE,
        )
    if modes.gap is not None and modes.gap > gap_above and signals.trunk:
        last = signals.trunk[-1]
        yield Hit(
            last.site,
            f"the output in eval mode differs from that in train mode by {modes.gap:.2g} of its size on the same batch",
            fix="look for norms whose running statistics do not stand for the batch, and for large dropout",
            facts={"gap": modes.gap},
            span=(last.op,),
            modules=(last.site.module,),
            level=Level.NOTE,
        )
