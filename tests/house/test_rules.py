"""Every fact about a rule lives once; these tests compare each repetition with it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import stablelint.causes
import stablelint.symptoms
from stablelint.causes import CAUSES
from stablelint.graph import Graph
from stablelint.rule import Rule
from stablelint.rulebook import FAMILIES
from stablelint.signals import Signals
from stablelint.symptoms import SYMPTOMS

PAGES = Path(__file__).parents[2] / "rules"
RULES = (*CAUSES, *SYMPTOMS)
SECTIONS = ["Why it hurts", "Bad", "Good", "What it leaves alone", "Thresholds", "References"]

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def page(rule: Rule) -> str:
    return (PAGES / f"{rule.name}.md").read_text(encoding="utf-8")


def sections(rule: Rule) -> dict[str, str]:
    """The text of each second-level section by its title, in the order of the page."""
    parts = re.split(r"^## (.+)$", page(rule), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rules_in(package: object) -> list[Rule]:
    """The rules defined in the modules of a package, found by walking its folder."""
    found = []
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        if not module.ispkg:
            values = vars(importlib.import_module(module.name)).values()
            found += [value for value in values if isinstance(value, Rule) and value.check.__module__ == module.name]
    return found


@pytest.mark.parametrize(
    ("package", "registry"), [(stablelint.causes, CAUSES), (stablelint.symptoms, SYMPTOMS)], ids=["causes", "symptoms"]
)
def test_the_registry_lists_what_the_folder_holds(package: object, registry: tuple[Rule, ...]) -> None:
    assert sorted(rule.name for rule in rules_in(package)) == sorted(rule.name for rule in registry)


def test_codes_are_sorted_and_unique_and_so_are_names() -> None:
    for registry in (CAUSES, SYMPTOMS):
        codes = [rule.code for rule in registry]
        assert codes == sorted(codes)
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


def test_every_page_belongs_to_a_rule() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(rule.name for rule in RULES)


@every_rule
def test_code_family_and_evidence_fit(rule: Rule) -> None:
    assert re.fullmatch(r"SL\d{3}", rule.code)
    assert rule.evidence is (Signals if rule in SYMPTOMS else Graph)
    assert (rule.family == "SL9") == (rule in SYMPTOMS)
    if rule in CAUSES:
        folder = rule.check.__module__.split(".")[-2]
        assert folder == FAMILIES[rule.family].replace(" ", "_")


@every_rule
def test_the_module_carries_the_rules_name(rule: Rule) -> None:
    assert rule.check.__module__.split(".")[-1].replace("_", "-") == rule.name


@every_rule
def test_what_a_rule_predicts_exists(rule: Rule) -> None:
    assert set(rule.predicts) <= {symptom.name for symptom in SYMPTOMS}
    assert bool(rule.predicts) == (rule in CAUSES)


@every_rule
def test_title_and_first_sentence_of_the_page(rule: Rule) -> None:
    title, blank, *rest = page(rule).split("\n")
    assert title == f"# {rule.code} {rule.name}"
    assert blank == ""
    first = " ".join(" ".join(rest).split())
    assert first.startswith(f"{rule.summary[0].upper()}{rule.summary[1:]}.")


@every_rule
def test_the_page_has_all_sections_in_order(rule: Rule) -> None:
    assert [name for name in sections(rule) if name in SECTIONS] == SECTIONS


@every_rule
def test_the_page_lists_the_thresholds_of_the_signature(rule: Rule) -> None:
    listed = re.findall(r"^- `(\w+)` = (\S+): \S", sections(rule)["Thresholds"], re.MULTILINE)
    assert {name: ast.literal_eval(value) for name, value in listed} == dict(rule.thresholds)


@every_rule
def test_the_examples_are_python_and_bad_marks_its_finding(rule: Rule) -> None:
    fences = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in sections(rule).items()}
    for source in (source for found in fences.values() for source in found):
        ast.parse(source)
    assert len(fences["Bad"]) >= 1
    assert len(fences["Good"]) >= 1
    assert all(re.search(r"# finding\b", source) for source in fences["Bad"])
    assert not any("# finding" in source for name in ("Good", "What it leaves alone") for source in fences[name])
