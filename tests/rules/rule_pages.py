"""The examples of the rule pages: read from the Markdown, executed in this process, checked with the real API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch import nn

from stablelint import rulebook
from stablelint.api import check_model
from stablelint.finding import Finding, Level, TargetReport
from stablelint.inputs import Inputs
from stablelint.rule import Rule
from stablelint.trace import observe_build

# As stablelint.targets does: weights and inputs drawn from one seed would be the same numbers.
_INPUT_SEED = 1_000_003
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One python fence of a page; ``line`` is where it starts in the Markdown."""

    rule: str
    section: str
    line: int
    source: str

    @property
    def id(self) -> str:
        return f"{self.rule}:{self.line}"

    @property
    def marked(self) -> list[int]:
        """The lines that carry ``# finding``."""
        return [number for number, line in enumerate(self.source.splitlines(), 1) if line.endswith("# finding")]


def examples(*titles: str) -> list[Example]:
    """The fences of all pages below the second-level headings ``titles``, by page."""
    return [found for rule in rulebook.rules() for found in _fences(rule) if found.section in titles]


def _fences(rule: Rule) -> Iterator[Example]:
    page = rulebook.page(rule)
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", page, re.MULTILINE)]
    for match in _FENCE.finditer(page):
        section = next(title for start, title in reversed(headings) if start < match.start())
        yield Example(rule.name, section, page.count("\n", 0, match.start()) + 1, match[1])


@cache
def report(example: Example, *, probe: bool) -> TargetReport:
    """What stablelint says about the example, as ``stablelint check`` would, but in this process.

    A measuring run of the page of a rule that reads the evidence of ``--deep`` is a deep one.
    """
    deep = probe and rulebook.find(example.rule).deep
    return check_source(example.source, example.id, probe=probe, deep=deep)


def check_source(source: str, name: str, *, probe: bool, deep: bool = False) -> TargetReport:
    """Execute ``source`` as a file of its own and check its ``build()`` on its ``example_inputs()``."""
    path = Path(mkdtemp(prefix="stablelint-")) / "example.py"
    path.write_text(source, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        with _one_thread():
            exec(compile(source, str(path), "exec"), namespace)

            def rebuild(seed: int) -> tuple[nn.Module, Inputs]:
                torch.manual_seed(seed)
                model = namespace["build"]()
                torch.manual_seed(_INPUT_SEED + seed)
                return model, Inputs.of(namespace["example_inputs"]())

            with observe_build() as origins:
                model, inputs = rebuild(0)
            loss = namespace.get("example_loss")
            return check_model(
                model, inputs, name=name, probe=probe, deep=deep, rebuild=rebuild, origins=origins, loss=loss
            )
    finally:
        path.unlink()
        path.parent.rmdir()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads differ in the last digits; the random state of other tests stays as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)


def loud(found: TargetReport) -> list[str]:
    """The findings above a note, for a readable failure."""
    return [show(finding) for finding in found.findings if finding.level > Level.NOTE]


def show(finding: Finding) -> str:
    return (
        f"{finding.site.line} {finding.level} {finding.code} {finding.name} ({finding.standing}): "
        f"{finding.message} [{finding.evidence}]"
    )
