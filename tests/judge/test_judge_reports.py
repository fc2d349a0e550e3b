"""What the judge reports besides causes, and how it merges and orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from judge_cases import FLAT, VANISHING, cause, hit, one, symptom

from stablelint.finding import Level, Standing
from stablelint.judge import CONSEQUENCES, judge
from stablelint.site import Site

# ---- symptoms that nothing explains


@pytest.mark.parametrize(("source", "standing"), [("measured", "confirmed"), ("predicted", "predicted")])
@pytest.mark.parametrize("level", Level)
def test_a_symptom_that_no_cause_explains_is_a_finding_at_its_own_level(source, standing, level):
    found = one(judge([], [(VANISHING, replace(hit(5), level=level))], replace(FLAT, source=source)))
    assert (found.name, found.level, found.standing) == ("vanishing-gradient", level, standing)
    assert (found.site.line, found.evidence) == (5, None)


def test_a_symptom_that_gives_no_level_is_an_error():
    assert one(judge([], [(VANISHING, hit(5))], FLAT)).level is Level.ERROR


@pytest.mark.parametrize(
    ("name", "reason"), [(name, reason) for name, reasons in CONSEQUENCES.items() for reason in sorted(reasons)]
)
def test_a_consequence_of_another_error_is_not_reported(name, reason):
    symptoms = [(symptom(name), hit(1)), (symptom(reason), hit(2))]
    found = judge([], symptoms, FLAT)
    assert [finding.name for finding in found] == [reason]


def test_no_two_symptoms_swallow_each_other():
    assert not [(a, b) for a, reasons in CONSEQUENCES.items() for b in reasons if a in CONSEQUENCES.get(b, ())]


@pytest.mark.parametrize("level", [Level.NOTE, Level.WARNING])
def test_a_symptom_that_is_no_error_swallows_nothing(level):
    symptoms = [(VANISHING, hit(1)), (symptom("dead-units"), replace(hit(2), level=level))]
    assert {finding.name for finding in judge([], symptoms, FLAT)} == {"vanishing-gradient", "dead-units"}


def test_a_symptom_swallows_its_consequence_also_when_a_cause_explains_it():
    symptoms = [(VANISHING, hit(1)), (symptom("dead-units"), hit(2))]
    found = one(judge([(cause("dead-units"), hit(3))], symptoms, FLAT))
    assert (found.name, found.standing) == ("some-cause", Standing.CONFIRMED)


# ---- doubts


def test_a_doubtful_prediction_is_a_note():
    doubtful = replace(FLAT, source="predicted", doubts=("roll",))
    seen = (VANISHING, replace(hit(5), level=Level.ERROR))
    assert one(judge([], [seen], doubtful)).level is Level.NOTE
    assert one(judge([], [seen], replace(doubtful, doubts=()))).level is Level.ERROR


@pytest.mark.parametrize("level", [Level.NOTE, Level.WARNING])
def test_a_doubtful_prediction_leaves_a_cause_at_the_level_of_its_rule(level):
    doubtful = replace(FLAT, source="predicted", doubts=("roll",))
    seen = (symptom("dead-units"), replace(hit(5), level=Level.ERROR))
    found = one(judge([(cause("dead-units", level=level), hit())], [seen], doubtful))
    assert (found.level, found.standing) == (level, Standing.PREDICTED)


# ---- merging and order


def test_hits_of_one_rule_on_one_line_are_one_finding_with_all_modules():
    rule = cause("dead-units")
    hits = [replace(hit(7), modules=modules) for modules in (("a", "b"), ("b", "c"))]
    found = one(judge([(rule, each) for each in hits], [], None))
    assert found.modules == ("a", "b", "c")


def test_the_worst_of_merged_hits_stays():
    seen = (symptom("dead-units"), replace(hit(9, 4), level=Level.ERROR))
    rule = cause("dead-units")
    found = one(judge([(rule, hit(7, 1)), (rule, hit(7, 4))], [seen], FLAT))
    assert (found.level, found.standing) == (Level.ERROR, Standing.CONFIRMED)


def test_of_equally_bad_hits_on_a_line_the_proved_one_stays():
    seen = (symptom("dead-units"), replace(hit(9, 4), level=Level.NOTE))
    rule = cause("dead-units")
    for hits in ([hit(7, 1), hit(7, 4)], [hit(7, 4), hit(7, 1)]):
        found = one(judge([(rule, each) for each in hits], [seen], FLAT))
        assert (found.level, found.standing) == (Level.WARNING, Standing.CONFIRMED)


def test_columns_of_a_line_are_merged_and_other_lines_files_and_rules_are_not():
    rule = cause("dead-units")
    column = replace(hit(1), site=Site("x", "net.py", 1, 30))
    assert len(judge([(rule, hit(1)), (rule, column)], [], None)) == 1
    assert len(judge([(rule, hit(1)), (rule, hit(2))], [], None)) == 2
    assert len(judge([(rule, hit(1)), (rule, hit(1, file="other.py"))], [], None)) == 2
    assert len(judge([(rule, hit(1)), (cause("dead-units", code="SL102"), hit(1))], [], None)) == 2


def test_without_a_file_modules_are_kept_apart():
    rule = cause("dead-units")
    assert len(judge([(rule, hit(1, file=None)), (rule, hit(2, file=None))], [], None)) == 2
    assert len(judge([(rule, hit(1, file=None)), (rule, hit(1, file=None))], [], None)) == 1


def test_findings_come_in_order_of_place_then_code():
    early, late = cause("dead-units", code="SL101"), cause("dead-units", code="SL401")
    places = [(late, hit(2)), (early, hit(10)), (early, hit(2)), (early, hit(1, file="a.py"))]
    found = judge(places, [], None)
    assert [(finding.site.file, finding.site.line, finding.code) for finding in found] == [
        ("a.py", 1, "SL101"),
        ("net.py", 2, "SL101"),
        ("net.py", 2, "SL401"),
        ("net.py", 10, "SL101"),
    ]
    assert found == judge(places[::-1], [], None)
