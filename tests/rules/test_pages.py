"""The pages keep their word: every example is executed, predicted and measured."""

from __future__ import annotations

import re

import pytest
from rule_pages import Example, examples, loud, report, show

from stablelint import rulebook
from stablelint.causes import CAUSES
from stablelint.finding import Level, Standing
from stablelint.symptoms import SYMPTOMS

CAUSE_NAMES = {rule.name for rule in CAUSES}
SYMPTOM_NAMES = {rule.name for rule in SYMPTOMS}
BAD = examples("Bad")
#: What the squashing of the output itself does is a warning at most: behind the last layer the loss decides.
OF_THE_OUTPUT = {"squashed-logits"}


def each(found: list[Example]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", found, ids=lambda example: example.id)


def of_causes(found: list[Example]) -> list[Example]:
    return [example for example in found if example.rule in CAUSE_NAMES]


def of_symptoms(found: list[Example]) -> list[Example]:
    return [example for example in found if example.rule in SYMPTOM_NAMES]


@pytest.mark.parametrize("probe", [False, True], ids=["predicted", "measured"])
@each(of_causes(BAD))
def test_bad_fires_its_cause_at_full_level_at_the_marked_line_and_nothing_else(example: Example, probe: bool) -> None:
    found = report(example, probe=probe)
    places = [(finding.name, finding.site.line) for finding in found.findings]
    assert places == [(example.rule, line) for line in example.marked], loud(found)
    for finding in found.findings:
        assert finding.level is (Level.WARNING if example.rule in OF_THE_OUTPUT else Level.ERROR)
        assert finding.standing is (Standing.CONFIRMED if probe else Standing.PREDICTED)


@each(of_causes(BAD))
def test_the_evidence_of_a_cause_is_a_symptom_that_it_predicts(example: Example) -> None:
    predicted = rulebook.find(example.rule).predicts
    for finding in report(example, probe=True).findings:
        assert (finding.evidence or "").startswith(tuple(f"measured: {name}," for name in predicted)), finding.evidence


@each(of_symptoms(BAD))
def test_bad_shows_its_symptom_at_the_marked_line_and_nothing_else(example: Example) -> None:
    found = report(example, probe=True)
    places = [(finding.name, finding.site.line) for finding in found.findings]
    assert places == [(example.rule, line) for line in example.marked], loud(found)
    for finding in found.findings:
        # what one gradient at step 0 does not show may be no more than a note
        assert finding.level is Level.ERROR or rulebook.find(example.rule).deep
        assert finding.standing is Standing.CONFIRMED


@each(of_symptoms(BAD))
def test_the_prediction_sees_the_same_symptom_or_none(example: Example) -> None:
    found = report(example, probe=False)
    places = [(finding.name, finding.site.line) for finding in found.findings]
    assert places in ([], [(example.rule, line) for line in example.marked]), loud(found)


@each(examples("Good", "What it leaves alone"))
def test_healthy_examples_are_silent(example: Example) -> None:
    for probe in (False, True):
        assert loud(report(example, probe=probe)) == []


@each(of_causes(examples("Good")))
def test_the_predicted_symptom_is_not_measured_on_good(example: Example) -> None:
    predicted = rulebook.find(example.rule).predicts
    assert [finding.name for finding in report(example, probe=True).findings if finding.name in predicted] == []


@each(examples("Known gaps"))
def test_known_gaps_are_still_open(example: Example) -> None:
    """When this fails, a gap has closed: move the example to Bad or to "What it leaves alone"."""
    assert "# todo: missed" in example.source
    for probe in (False, True):
        assert example.rule not in [finding.name for finding in report(example, probe=probe).findings]


@each(BAD)
def test_messages_are_lower_case_without_a_stop_and_give_a_number(example: Example) -> None:
    for probe in (False, True):
        for finding in report(example, probe=probe).findings:
            for text in (finding.message, finding.fix or "", finding.evidence or ""):
                assert not text[:1].isupper(), text
                assert not text.endswith((".", "!", " ")), text
                assert "\n" not in text
                assert "  " not in text
            # what is not finite has no number
            assert re.search(r"\d|NaN|infinity|not finite", finding.message), show(finding)
            assert finding.fix
