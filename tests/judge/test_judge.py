"""Causes meet symptoms: standings, levels and shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from judge_cases import EXPLODING, FLAT, VANISHING, WHOLE, cause, hit, measured, one, symptom

from stablelint.finding import Level, Standing
from stablelint.judge import LEAST_DECADES, judge

# ---- a cause by itself


def test_a_cause_whose_symptom_is_measured_is_confirmed_at_the_symptoms_level():
    seen = replace(hit(9), level=Level.ERROR)
    found = one(judge([(cause("dead-units"), hit(3))], [(symptom("dead-units"), seen)], FLAT))
    assert (found.name, found.level, found.standing) == ("some-cause", Level.ERROR, Standing.CONFIRMED)
    assert found.evidence == "measured: dead-units, message 9"
    assert found.site.line == 3


def test_a_cause_without_its_symptom_is_cleared_and_keeps_the_level_of_its_rule():
    for level in Level:
        found = one(judge([(cause("dead-units", level=level), hit())], [], FLAT))
        assert (found.level, found.standing) == (level, Standing.CLEARED)
        assert found.evidence == "measured: no dead-units here"


@pytest.mark.parametrize("present", [True, False])
def test_a_cause_that_is_judged_on_a_prediction_says_so(present):
    seen = [(symptom("dead-units"), replace(hit(9), level=Level.ERROR))] if present else []
    found = one(judge([(cause("dead-units"), hit())], seen, replace(FLAT, source="predicted")))
    assert found.standing is Standing.PREDICTED
    assert found.level is (Level.ERROR if present else Level.WARNING)
    assert found.evidence is not None
    assert found.evidence.startswith("predicted: dead-units" if present else "predicted: no dead-units")


def test_without_signals_a_cause_is_at_least_a_warning():
    for level, expected in zip(Level, (Level.WARNING, Level.WARNING, Level.ERROR), strict=True):
        found = one(judge([(cause("dead-units", level=level), hit())], [], None))
        assert (found.level, found.standing, found.evidence) == (expected, Standing.NOT_PROBED, None)


@pytest.mark.parametrize("signals", [FLAT, None])
def test_a_hit_that_says_itself_that_it_does_no_harm_explains_nothing(signals):
    seen = [(symptom("dead-units"), replace(hit(9, 3), level=Level.ERROR))] if signals else []
    found = judge([(cause("dead-units"), replace(hit(3), level=Level.NOTE))], seen, signals)
    assert {(finding.name, finding.level) for finding in found} >= {("some-cause", Level.NOTE)}
    assert len(found) == 1 + len(seen)


def test_a_weak_symptom_does_not_lower_the_level_of_a_rule():
    seen = replace(hit(9), level=Level.NOTE)
    found = one(judge([(cause("dead-units"), hit())], [(symptom("dead-units"), seen)], FLAT))
    assert (found.level, found.standing) == (Level.WARNING, Standing.CONFIRMED)


def test_of_several_symptoms_the_worst_is_the_evidence():
    seen = [
        (symptom("dead-units"), replace(hit(8), level=Level.WARNING)),
        (symptom("non-finite"), replace(hit(9), level=Level.ERROR)),
    ]
    found = one(judge([(cause("dead-units", "non-finite"), hit())], seen, FLAT))
    assert found.level is Level.ERROR
    assert found.evidence == "measured: non-finite, message 9"


def test_a_hit_that_narrows_the_prediction_is_not_proved_by_another_symptom():
    rule = cause("exploding-gradient", "dead-units")
    seen = (symptom("dead-units"), replace(hit(9), level=Level.ERROR))
    findings = judge([(rule, hit(1, predicts="exploding-gradient"))], [seen], FLAT)
    assert [finding.name for finding in findings] == ["some-cause", "dead-units"]
    assert findings[0].evidence == "measured: no exploding-gradient here"


def test_the_words_of_a_hit_reach_its_finding():
    given = hit(4, facts={"n": 3}, fix="do it", modules=("a", "b"))
    found = one(judge([(cause("dead-units"), given)], [], None))
    assert (found.message, found.facts, found.fix, found.modules) == ("message 4", {"n": 3}, "do it", ("a", "b"))
    assert (found.code, found.name, found.site) == ("SL101", "some-cause", given.site)


# ---- place: symptoms of one op


@pytest.mark.parametrize(
    ("own", "seen", "explained"),
    [
        (hit(1, 2, 3), hit(9, 3, 4), True),
        (hit(1, 2, 3), hit(9, 4, 5), False),
        (hit(1, 2, 3), hit(1, 4, 5), True),
        (hit(1), hit(9, 4), True),
        (hit(1, 4), hit(9), True),
    ],
    ids=["shared op", "elsewhere", "same line", "cause without span", "symptom without span"],
)
def test_a_symptom_of_single_ops_is_explained_where_it_is(own, seen, explained):
    findings = judge([(cause("dead-units"), own)], [(symptom("dead-units"), seen)], FLAT)
    assert findings[0].standing is (Standing.CONFIRMED if explained else Standing.CLEARED)
    assert len(findings) == (1 if explained else 2)


# ---- place: symptoms of the whole path, by their share of the decades


@pytest.mark.parametrize(
    ("decades", "explained"),
    [
        ((-6, -6, -5, -1, 0, 0, 0), True),  # five of six decades
        ((-6, -5, -5, -4.3, -2, 0, 0), True),  # 0.7 of six
        ((-6, -5, -5, -4.5, -2, 0, 0), False),  # half a decade is less than a tenth of six
        ((-1, -1, -1, 0, 0, 0, 0), True),  # all of one
        ((-0.9, -0.4, -0.4, 0, 0, 0, 0), False),  # nearly half of it, but less than half a decade
        ((-6, -5, -5, -5, -2, 0, 0), False),  # flat where the cause is
        ((-6, -5, -2, -5, -2, 0, 0), False),  # grows where the cause is
    ],
)
def test_a_cause_explains_vanishing_by_its_share_of_the_decades(decades, explained):
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    findings = judge([(cause("vanishing-gradient"), hit(1, 3))], [(VANISHING, seen)], measured(*decades))
    assert [finding.standing for finding in findings] == (
        [Standing.CONFIRMED] if explained else [Standing.CLEARED, Standing.CONFIRMED]
    )
    assert findings[0].level is (Level.ERROR if explained else Level.WARNING)


@pytest.mark.parametrize(("sign", "explained"), [(1, True), (-1, False)])
def test_exploding_is_explained_by_growth_towards_the_input(sign, explained):
    decades = [sign * power for power in (6, 6, 5, 1, 0, 0, 0)]
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    findings = judge([(cause("exploding-gradient"), hit(1, 3))], [(EXPLODING, seen)], measured(*decades))
    assert findings[0].standing is (Standing.CONFIRMED if explained else Standing.CLEARED)


def test_half_a_decade_is_just_enough():
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    for lost, explained in ((LEAST_DECADES + 0.01, True), (LEAST_DECADES - 0.01, False)):
        signals = measured(-lost, -lost, -lost, 0, 0, 0, 0)
        findings = judge([(cause("vanishing-gradient"), hit(1, 3))], [(VANISHING, seen)], signals)
        assert (findings[0].standing is Standing.CONFIRMED) is explained


@pytest.mark.parametrize(
    ("own", "explained"),
    [((3,), True), ((0, 1), True), ((6, 8), True), ((7, 8), False), ((0,), False)],
    ids=["inside", "touches the start", "touches the end", "behind", "in front"],
)
def test_where_no_gradient_is_known_spans_that_overlap_explain(own, explained):
    seen = replace(hit(9, 1, 6), level=Level.ERROR)
    findings = judge([(cause("vanishing-gradient"), hit(1, *own))], [(VANISHING, seen)], measured(*[None] * 9))
    assert findings[0].standing is (Standing.CONFIRMED if explained else Standing.CLEARED)


def test_one_known_gradient_is_no_difference():
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    signals = measured(None, None, None, -3, None, None, None)
    found = judge([(cause("vanishing-gradient"), hit(1, 3))], [(VANISHING, seen)], signals)
    assert one(found).standing is Standing.CONFIRMED


def test_gradients_that_are_not_finite_are_no_decades():
    rows = tuple(replace(row, grad_rms=float("inf") if row.op < 3 else 1.0) for row in FLAT.rows)
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    signals = replace(FLAT, rows=rows)
    findings = judge([(cause("exploding-gradient"), hit(1, 3))], [(EXPLODING, seen)], signals)
    assert findings[0].standing is Standing.CONFIRMED


def test_a_gradient_of_exactly_zero_is_lost_where_it_becomes_zero():
    rows = tuple(replace(row, grad_rms=0.0 if row.op < 3 else 1.0) for row in FLAT.rows)
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    causes = [(cause("vanishing-gradient", code="SL102"), hit(1, 3)), (cause("vanishing-gradient"), hit(2, 5))]
    findings = judge(causes, [(VANISHING, seen)], replace(FLAT, rows=rows))
    assert [finding.standing for finding in findings] == [Standing.CONFIRMED, Standing.CLEARED]


def test_the_collapse_of_samples_proves_a_cause_that_predicts_vanishing():
    seen = replace(hit(9, *WHOLE), level=Level.ERROR)
    signals = measured(-6, -6, -6, 0, 0, 0, 0)
    for predicted, explained in (("vanishing-gradient", True), ("exploding-gradient", False)):
        findings = judge([(cause(predicted), hit(1, 3))], [(symptom("similarity-collapse"), seen)], signals)
        assert (findings[0].standing is Standing.CONFIRMED) is explained


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((1.0, 2.0, 12.0), "no vanishing-gradient here, but the activations grow 12-fold from linear to linear"),
        ((8.0, 2.0, 1.0), "no vanishing-gradient here, but the activations shrink 8-fold from linear to linear"),
        (
            (1e200, 2.0, 1e-200),
            "no vanishing-gradient here, but the activations shrink 1e+300-fold from linear to linear",
        ),
        ((1.0, 9.0, 3.0), "no vanishing-gradient here"),
        ((1.0, 2.0, None), "no vanishing-gradient here"),
    ],
)
def test_the_evidence_of_a_cleared_cause_tells_what_the_activations_do_across_it(sizes, said):
    rows = tuple(replace(row, rms=size) for row, size in zip(FLAT.rows, sizes, strict=False))
    found = one(judge([(cause("vanishing-gradient"), hit(3, 0, 2))], [], replace(FLAT, rows=rows)))
    assert found.standing is Standing.CLEARED
    assert found.evidence == f"measured: {said}"
