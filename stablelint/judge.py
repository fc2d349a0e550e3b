"""Join causes with symptoms and set levels: a rule finds a cause, the signal decides how bad it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stablelint.finding import Finding, Hit, Level, Standing
from stablelint.rule import Rule
from stablelint.signals import Signals

Found = tuple[Rule, Hit]

#: Symptoms that follow from others: a dead layer stops the gradient, and where it has vanished all samples look alike.
CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "vanishing-gradient": frozenset({"dead-units", "non-finite"}),
    "exploding-gradient": frozenset({"non-finite"}),
    "similarity-collapse": frozenset({"vanishing-gradient", "dead-units", "non-finite", "identical-units"}),
    "dead-units": frozenset({"non-finite"}),
    "saturated-activation": frozenset({"vanishing-gradient", "exploding-gradient", "non-finite"}),
    "zero-gradient": frozenset(
        {
            "vanishing-gradient",
            "dead-units",
            "saturated-activation",
            "saturated-attention",
            "similarity-collapse",
            "identical-units",
            "non-finite",
        }
    ),
    "identical-units": frozenset({"dead-units", "vanishing-gradient", "non-finite"}),
    "learning-rate-fragility": frozenset(
        {
            "vanishing-gradient",
            "exploding-gradient",
            "non-finite",
            "dead-units",
            "saturated-attention",
            "similarity-collapse",
            "identical-units",
            "gradient-decay-in-time",
        }
    ),
    "half-precision-range": frozenset({"vanishing-gradient", "exploding-gradient", "non-finite"}),
}
#: Symptoms of the whole path: a cause explains them by the share that arises across its own ops.
ALONG_THE_TRUNK = frozenset({"vanishing-gradient", "exploding-gradient", "similarity-collapse"})
#: Symptoms that are read off the graph itself, whatever a prediction does not know.
EXACT = frozenset({"zero-gradient"})
#: A cause explains a symptom of the path from a tenth of its decades on, and from half a decade at least: what is
#: less than a factor of 3 is within the spread of healthy blocks.
LEAST_SHARE, LEAST_DECADES = 0.1, 0.5
_FLOOR = 1e-30


def judge(causes: Sequence[Found], symptoms: Sequence[Found], signals: Signals | None) -> tuple[Finding, ...]:
    """Findings in order of place.

    A cause whose predicted symptom is present takes the symptom's level and swallows it; without the symptom it
    keeps the level of its rule (a note or warning), and without any signals at least a warning. A symptom that
    no cause explains is a finding of its own, at the place where the signal breaks.
    """
    symptoms = [(rule, hit if rule.name in EXACT else _within_doubt(hit, signals)) for rule, hit in symptoms]
    explained: set[int] = set()
    proved: list[Finding] = []
    findings: list[Finding] = []
    for rule, hit in causes:
        matches = [
            index
            for index, (symptom, seen) in enumerate(symptoms)
            if hit.level is None
            and symptom.name in _predicted(rule, hit)
            and _explains(hit, symptom.name, seen, signals)
        ]
        explained.update(matches)
        (proved if matches else findings).append(_cause(rule, hit, [symptoms[index] for index in matches], signals))
    present = {rule.name for rule, hit in symptoms if _level(hit) is Level.ERROR}
    for index, (rule, hit) in enumerate(symptoms):
        if index not in explained and not CONSEQUENCES.get(rule.name, frozenset()) & present:
            findings.append(_symptom(rule, hit, signals))
    # those first whose symptom is there: of equally bad hits on one line they are the ones to show
    return tuple(sorted(_merged([*proved, *findings]), key=lambda finding: finding.sort_key))


def _within_doubt(hit: Hit, signals: Signals | None) -> Hit:
    """A prediction over ops that it does not know is a note: it may be right, and nobody should stop for it."""
    if signals is None or not signals.doubts:
        return hit
    return replace(hit, level=Level.NOTE)


def _predicted(rule: Rule, hit: Hit) -> tuple[str, ...]:
    names = (hit.predicts,) if hit.predicts else rule.predicts
    # a net that vanishes also collapses: either one proves a cause that predicts the former
    return (*names, "similarity-collapse") if "vanishing-gradient" in names else names


def _explains(hit: Hit, name: str, seen: Hit, signals: Signals | None) -> bool:
    """Whether the symptom arises where the cause is."""
    if not hit.span or not seen.span:
        return True
    if name not in ALONG_THE_TRUNK:
        return bool(set(hit.span) & set(seen.span)) or hit.site.line_key == seen.site.line_key
    if signals is None:
        return False
    total, own = _decades(signals, seen.span), _decades(signals, hit.span)
    if total is None or own is None:
        return min(hit.span) <= max(seen.span) and min(seen.span) <= max(hit.span)
    if name == "exploding-gradient":
        total, own = -total, -own
    return own >= max(LEAST_DECADES, LEAST_SHARE * total)


def _decades(signals: Signals, span: tuple[int, ...]) -> float | None:
    """log10 of how much more the output hears of the end of ``span`` than of what goes into it.

    The gradient's rms is compared rather than the sensitivity: of a layer that is itself badly scaled, the size
    of the activations hides half of the loss.
    """
    before = [row for row in signals.trunk if row.op < min(span) and row.grad_rms is not None]
    after = [row for row in signals.trunk if row.op >= max(span) and row.grad_rms is not None]
    inside = [row for row in signals.trunk if min(span) <= row.op <= max(span) and row.grad_rms is not None]
    start = before[-1] if before else inside[0] if inside else None
    end = after[0] if after else inside[-1] if inside else None
    if start is None or end is None or start is end:
        return None
    first, last = start.grad_rms or 0.0, end.grad_rms or 0.0
    if not (math.isfinite(first) and math.isfinite(last)):
        return None
    return math.log10(max(last, _FLOOR)) - math.log10(max(first, _FLOOR))


def _growth(signals: Signals, span: tuple[int, ...]) -> str:
    """What happens to the size of the activations across ``span``, where that is more than in healthy blocks."""
    rows = [row for row in signals.trunk if span and min(span) <= row.op <= max(span) and row.rms]
    sizes = [row.rms or 0.0 for row in rows]
    if len(sizes) < 2 or not all(map(math.isfinite, sizes)):
        return ""
    decades = math.log10(sizes[-1]) - math.log10(sizes[0])
    if abs(decades) < LEAST_DECADES:
        return ""
    change = "grow" if decades > 0 else "shrink"
    factor = 10 ** min(abs(decades), 300.0)
    return f", but the activations {change} {factor:.2g}-fold from {rows[0].label} to {rows[-1].label}"


def _level(hit: Hit) -> Level:
    return Level.ERROR if hit.level is None else hit.level


def _cause(rule: Rule, hit: Hit, matches: Sequence[Found], signals: Signals | None) -> Finding:
    if matches:
        symptom, seen = max(matches, key=lambda match: _level(match[1]))
        assert signals is not None
        measured = signals.source == "measured"
        standing = Standing.CONFIRMED if measured else Standing.PREDICTED
        level = max(_level(seen), rule.level)
        evidence = f"{signals.source}: {symptom.name}, {seen.message}"
    elif signals is not None:
        standing = Standing.CLEARED if signals.source == "measured" else Standing.PREDICTED
        level = rule.level if hit.level is None else hit.level
        expected = " or ".join(_predicted(rule, hit)[: 1 if hit.predicts else len(rule.predicts)])
        evidence = f"{signals.source}: no {expected} here{_growth(signals, hit.span)}"
    else:
        standing, evidence = Standing.NOT_PROBED, None
        level = max(rule.level, Level.WARNING) if hit.level is None else hit.level
    return _finding(rule, hit, level, standing, evidence)


def _symptom(rule: Rule, hit: Hit, signals: Signals | None) -> Finding:
    predicted = signals is not None and signals.source == "predicted"
    standing = Standing.PREDICTED if predicted else Standing.CONFIRMED
    return _finding(rule, hit, _level(hit), standing, None)


def _finding(rule: Rule, hit: Hit, level: Level, standing: Standing, evidence: str | None) -> Finding:
    return Finding(
        code=rule.code,
        name=rule.name,
        level=level,
        message=hit.message,
        site=hit.site,
        standing=standing,
        facts=dict(hit.facts),
        fix=hit.fix,
        evidence=evidence,
        modules=hit.modules,
    )


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """One finding per rule and line: a block that is built 24 times has one defect, not 24."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        key = (finding.code, finding.site.line_key if finding.site.file else finding.site)
        groups.setdefault(key, []).append(finding)
    merged = []
    for group in groups.values():
        worst = max(group, key=lambda finding: finding.level)
        modules = dict.fromkeys(module for finding in group for module in finding.modules)
        merged.append(replace(worst, modules=tuple(modules)))
    return merged
