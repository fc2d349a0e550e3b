"""What ``--deep`` measures, as tables."""

from __future__ import annotations

from stablelint.report.numbers import number
from stablelint.report.table import table
from stablelint.report.words import Paint, wrap
from stablelint.signals import Deep, Learning


def render_deep(deep: Deep | None, width: int, paint: Paint) -> list[str]:
    """One table of the learning rates and one of the rest; nothing without ``--deep``."""
    if deep is None:
        return []
    rates = [] if deep.learning is None else _rates(deep.learning, width, paint)
    rows = [*_unusual(deep), *_half(deep), *_modes(deep), *(["not measured", each] for each in deep.failed)]
    rest = table(["looked at", "found"], rows, width, paint, right=set(), shrink=(1,)) if rows else []
    long = [line for row in _sentences(deep) for line in wrap(row, width)]
    return ["", *rates, *([""] if rates and rest else []), *rest, *long]


def _rates(learning: Learning, width: int, paint: Paint) -> list[str]:
    rows = [
        [fit.label, str(fit.steps), number(fit.first), number(fit.last), f"{learning.progress(fit):.0%}"]
        for fit in learning.fits
    ]
    header = ["learning rate", "steps", "loss before", "after", "learned"]
    return table(header, rows, width, paint, right={1, 2, 3, 4}, shrink=(0,))


def _unusual(deep: Deep) -> list[list[str]]:
    hit = {trigger.trigger for trigger in deep.triggers}
    return [[name, "not finite" if name in hit else "finite"] for name in deep.tried]


def _half(deep: Deep) -> list[list[str]]:
    rows = []
    if deep.precision:
        worst = max(deep.precision, key=lambda row: row.largest)
        rows.append(["largest value (float16: 65504)", f"{number(worst.largest)} at {worst.name}"])
        lost = max(deep.precision, key=lambda row: row.grad_underflow or 0.0)
        rows.append(["gradient that is 0 in float16", f"{lost.grad_underflow or 0:.0%} at {lost.name}"])
    if deep.half is not None:
        rows.append(["bfloat16: error of the output", number(deep.half.output_error)])
        rows.append(["bfloat16: cosine of the gradient", number(deep.half.gradient_cosine)])
    return rows


def _modes(deep: Deep) -> list[list[str]]:
    modes = deep.modes
    if modes is None:
        return []
    alone = "fails" if modes.single else f"changes its output by {number(modes.single_change)}"
    return [["one sample alone", alone], ["eval mode against train mode", number(modes.gap)]]


def _sentences(deep: Deep) -> list[str]:
    found = [
        f"{each.trigger}: {each.name} at {each.site} yields {each.what} in the {each.direction} pass"
        for each in deep.triggers
    ]
    return ["", *found] if found else []
