"""SL915: parameters that no gradient reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import ParameterSignal, Signals
from stablelint.site import Site


@rule(code="SL915", summary="parameters that are to be trained and get exactly no gradient, now and after any step")
def zero_gradient(signals: Signals, *, error_share: float = 0.5, note_share: float = 0.02) -> Iterator[Hit]:
    """Report cut ways back, exact zeros that nothing wakes, and parameters that nothing uses.

    A cut is an error if all data passes it, or if it leaves `error_share` of all elements untrained; it is a warning
    where code reads the parameters with autograd off, as it does to freeze them, and a note where another way may train
    them (predictions beside a loss, a model in eval mode) and below `note_share` (heads with a loss of their own, which
    is not run).
    """
    yield from _cut(signals, error_share, note_share)
    if not signals.doubts:  # a zero of the prediction needs a rule for every op
        yield from _multiplied_by_zero(signals)
    yield from _unused(signals)


def _cut(signals: Signals, error_share: float, note_share: float) -> Iterator[Hit]:
    reached = {each.name for each in signals.parameters if each.grad_rms}
    for cut in signals.cuts:
        names = [name for name in cut.parameters if name not in reached]
        if not names:
            continue
        harmful = not cut.shields and (cut.severs or cut.share >= error_share)
        minor = cut.aside or (cut.share < note_share and not cut.severs)
        level = Level.NOTE if minor else Level.ERROR if harmful else Level.WARNING
        yield Hit(
            cut.site,
            f"no gradient for {_who(names)} ({cut.share:.0%} of all elements): {cut.name} ends the only way back",
            fix="keep the value differentiable here; freeze with requires_grad_(False) what is not to be trained",
            facts={"parameters": len(names), "elements": cut.elements, "severs": cut.severs},
            span=(cut.op,),
            modules=(cut.site.module,),
            level=level,
        )


def _multiplied_by_zero(signals: Signals) -> Iterator[Hit]:
    zero = [
        each
        for each in signals.parameters
        if each.matrix and each.grad_rms == 0 and _silent(signals, each) and not _wakes(signals, each)
    ]
    # two zero factors of one product: neither ever moves, whatever the data
    stuck = [each for each in zero if each.rms == 0 and each.sleepers]
    stopped = [each for each in zero if not each.passed_over]
    if stuck:
        yield _zero(
            signals,
            stuck,
            f"its values are 0, and so is {stuck[0].sleepers[0]} behind it",
            "initialise one of the two factors away from zero",
            Level.ERROR,
        )
    elif stopped:
        # what is predicted as 0 may be lost in the rounding of larger numbers
        level = Level.WARNING if signals.source == "measured" else Level.NOTE
        yield _zero(signals, stopped, "a factor of 0 stops it", "look for what is constant behind it", level)
    idle = [each for each in zero if each.passed_over and each not in stuck]
    if idle:
        yield _zero(
            signals,
            idle,
            "data or chance picked others of the values that are put together or masked behind it",
            "nothing, if other batches pick it; else look at what picks",
            Level.NOTE,
        )


def _zero(signals: Signals, shown: Sequence[ParameterSignal], why: str, fix: str, level: Level) -> Hit:
    first = signals.by_op[shown[0].readers[0]]
    return Hit(
        first.site,
        f"the gradient of {_who([each.name for each in shown])} is exactly 0: {why}",
        fix=fix,
        facts={"parameters": len(shown)},
        span=tuple(index for each in shown for index in each.readers),
        modules=tuple(dict.fromkeys(each.name.rpartition(".")[0] for each in shown)),
        level=level,
    )


def _wakes(signals: Signals, parameter: ParameterSignal) -> bool:
    """Whether a zero factor behind gets a gradient: after one step it is none (LoRA, zero-initialised last layers)."""
    behind = [each for each in signals.parameters if each.name in parameter.sleepers]
    # the factor of values that are not zero themselves gets one if anything comes back
    return any(each.grad_rms or (parameter.rms and not _silent(signals, each)) for each in behind)


def _silent(signals: Signals, parameter: ParameterSignal) -> bool:
    """Whether nothing comes back to the ops that read it; else it is their data that is zero, on this batch."""
    rows = [signals.by_op.get(index) for index in parameter.readers]
    return bool(rows) and all(row is not None and row.grad_rms == 0 for row in rows)


def _unused(signals: Signals) -> Iterator[Hit]:
    cut = {name for found in signals.cuts for name in found.parameters}
    unused = [each for each in signals.parameters if not each.readers and not each.grad_rms and each.name not in cut]
    if unused:
        yield Hit(
            Site(unused[0].name.rpartition(".")[0]),
            f"nothing uses {_who([each.name for each in unused])} in this forward pass, so no gradient comes back",
            fix="remove what is not needed, or check the path that uses it",
            facts={"parameters": len(unused)},
            modules=tuple(dict.fromkeys(each.name.rpartition(".")[0] for each in unused)),
            level=Level.NOTE,
        )


def _who(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
