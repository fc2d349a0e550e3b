"""All rules and their pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from stablelint.errors import StablelintError, UsageError, did_you_mean
from stablelint.rule import Rule

FAMILIES: Mapping[str, str] = {
    "SL1": "activation",
    "SL2": "residual",
    "SL3": "normalization",
    "SL4": "attention",
    "SL5": "initialization",
    "SL6": "recurrence",
    "SL7": "numerics",
    "SL8": "gradient path",
    "SL9": "symptoms",
}


@cache
def rules() -> tuple[Rule, ...]:
    """Every cause and every symptom, sorted by code."""
    from stablelint.causes import CAUSES
    from stablelint.symptoms import SYMPTOMS

    return tuple(sorted((*CAUSES, *SYMPTOMS), key=lambda rule: rule.code))


def words() -> frozenset[str]:
    """The codes and the names of all rules: what a user may write to mean exactly one rule."""
    return frozenset(word for rule in rules() for word in (rule.code, rule.name))


def find(text: str) -> Rule:
    """The rule with this code or name (upper or lower case, ``_`` or ``-``); UsageError when there is none."""
    wanted = normal(text)
    for rule in rules():
        if wanted in (rule.code, rule.name):
            return rule
    raise UsageError(f'no rule has the code or the name "{text}"{did_you_mean(wanted, words())}')


def matching(text: str) -> tuple[Rule, ...]:
    """The rules that a code, a name or the beginning of a code (``SL4``) selects; UsageError when there are none."""
    wanted = normal(text)
    if wanted == "ALL":
        return rules()
    by_prefix = wanted.startswith("SL") and tuple(rule for rule in rules() if rule.code.startswith(wanted))
    return by_prefix or (find(text),)


def normal(text: str) -> str:
    """A code in upper case, a name in lower case with hyphens."""
    text = text.strip().replace("_", "-")
    is_code = text[:2].upper() == "SL" and (text[2:].isdigit() or not text[2:])
    return text.upper() if is_code or text.lower() == "all" else text.lower()


def page(rule: Rule) -> str:
    """The Markdown page of a rule: ``rules/<name>.md`` of the checkout, else the one shipped in the package."""
    package = Path(__file__).parent
    for folder in (package.parent / "rules", package / "rules"):
        path = folder / f"{rule.name}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise StablelintError(f"the page of {rule.name} is missing from this installation; reinstall stablelint")


def catalogue() -> list[dict[str, object]]:
    """All rules as plain data, for ``stablelint rules --format json`` and for documentation.

    ``level`` is that of a cause without its symptom; a symptom's follows from how bad the signal is.
    """
    return [
        {
            "code": rule.code,
            "name": rule.name,
            "family": FAMILIES.get(rule.family, rule.family),
            "kind": "symptom" if rule.family == "SL9" else "cause",
            "level": None if rule.family == "SL9" else str(rule.level),
            "predicts": list(rule.predicts),
            "summary": rule.summary,
            "thresholds": dict(rule.thresholds),
        }
        for rule in rules()
    ]
