"""Send the gradient back: the cotangent of every value, and what is known of it beside its table."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from stablelint.predict.domain import LIMIT, Slant, Table, Value, settle
from stablelint.predict.profile import carried_back, mixed
from stablelint.predict.slant import combined
from stablelint.predict.spread import combined as joint_spread
from stablelint.predict.spread import of_mask, of_weights

#: What a rule raises on tables that it cannot work with (all zero, beyond floats). One rule that fails on the way back
#: must not take the other ops with it.
_FAILS = (ArithmeticError, ValueError, IndexError)


def backward(sink: Value, failed: list[Value] | None = None) -> None:
    """Send the gradient of a fixed random projection with unit-variance weights back from ``sink``.

    Values whose cotangent rule fails are added to ``failed``; no gradient goes past them on that way.
    """
    seed = np.zeros(sink.table.shape)
    seed.flat[-1] = 1.0
    sink.cotangent = settle(seed, sink.shape)
    for value in sorted(_ancestors(sink), key=lambda found: found.order, reverse=True):
        if value.cotangent is not None:
            for place, (parent, pull) in enumerate(value.parents):
                back = _pulled(pull, value.cotangent)
                if back is not None:
                    _send(value, parent, settle(back, parent.shape), place)
                elif failed is not None:
                    failed.append(value)
        total = value.gradient()
        if total is not None:
            for witness, pull in value.witnesses:
                seen = _pulled(pull, total)
                if seen is None:
                    continue
                found = settle(seen, witness.shape)
                witness.observed = found if witness.observed is None else witness.observed + found


def _pulled(pull: Callable[[Table], Table], cotangent: Table) -> Table | None:
    """``pull(cotangent)``: the largest number beyond the range of floats, None where a rule fails on its operands."""
    try:
        return pull(cotangent)
    except OverflowError:
        return np.full_like(cotangent, LIMIT)
    except _FAILS:
        return None


def _send(value: Value, parent: Value, table: Table, place: int) -> None:
    """Add to the cotangent of ``parent``, with its profile along axes and its dependence on the value."""
    scale, focus = carried_back(value.focus, value.alignment(place), value.shape, parent.shape)
    table = np.minimum(table * scale, LIMIT) if scale != 1 else table
    factor, slant = _tilted(value, place)
    if factor != 1:
        table.flat[-1] *= factor
        table = settle(table, parent.shape)
    _join(value, parent, table, place)
    spread, alike = _spread(value, parent, table, place)
    unsure = value.unsure + value.uncertain
    if parent.cotangent is None:
        parent.cotangent, parent.focus, parent.slant = table, focus, slant
        parent.spread, parent.unsure, parent.alike = spread, unsure, alike
        return
    before, more = float(parent.cotangent.flat[-1]), float(table.flat[-1])
    if focus or parent.focus:
        parent.focus = mixed([(before, parent.focus), (more, focus)], parent.shape)
    parent.alike = (before * parent.alike + more * alike) / (before + more) if before + more > 0 else alike
    parent.spread = joint_spread(before, parent.spread, more, spread)
    parent.unsure = joint_spread(before, parent.unsure, more, unsure)
    parent.slant = combined(before, parent.slant, more, slant)
    parent.cotangent = np.minimum(parent.cotangent + table, LIMIT)


def _tilted(value: Value, place: int) -> tuple[float, Slant | None]:
    """A factor on the squared cotangent of the parent at ``place``, and how it depends on the parent's value."""
    tilt = value.tilts[place] if place < len(value.tilts) else None
    if tilt is None:
        return 1.0, None
    try:
        factor, slant = tilt(value.slant)
    except _FAILS:
        return 1.0, None
    if not math.isfinite(factor) or (slant is not None and not np.isfinite(slant).all()):
        return 1.0, None
    return factor, slant


def _masked(value: Value) -> tuple[int, float, Table] | None:
    """What the mask of an activation is like; None where there is none or it cannot be told."""
    try:
        return None if value.mask is None else value.mask()
    except _FAILS:
        return None


def _spread(value: Value, parent: Value, back: Table, place: int) -> tuple[float, float]:
    """The variance of ln g^2 of what ``value`` sends, and how alike its directions are."""
    spread, alike = value.spread, value.alike
    mask = _masked(value) if place == 0 and back.ndim > 1 else None
    if mask is not None:
        axis, correlation, excess = mask
        alike *= correlation**2
        if value.cotangent is not None and value.cotangent.shape == excess.shape:
            spread += of_mask(value.cotangent, axis, value.shape, value.alike, excess)
    if place < len(value.mixed) and value.mixed[place]:
        added, alike = of_weights(back, value.mixed[place], parent.shape, alike)
        spread += added
    return spread, alike


def _join(value: Value, parent: Value, table: Table, place: int) -> None:
    """Add to E[(g x)(g x)'] of ``parent``, which is kept only where g and x are not independent."""
    rule = value.joints[place] if place < len(value.joints) else None
    assert value.cotangent is not None
    try:
        found = rule(value.cotangent, value.joint, table) if rule is not None else None
    except _FAILS:  # then g and x count as independent
        found = None
    if found is None and parent.joint is None:
        return
    before = parent.joint
    if before is None:
        before = np.zeros_like(table) if parent.cotangent is None else parent.cotangent * parent.table
    more = table * parent.table if found is None else found
    parent.joint = np.clip(np.nan_to_num(before + more), -LIMIT, LIMIT)


def _ancestors(sink: Value) -> list[Value]:
    seen, waiting, found = {id(sink)}, [sink], [sink]
    while waiting:
        value = waiting.pop()
        for parent, _ in (*value.parents, *value.witnesses):
            if id(parent) not in seen:
                seen.add(id(parent))
                waiting.append(parent)
                found.append(parent)
    return found
