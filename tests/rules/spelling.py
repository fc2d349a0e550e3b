"""Models written around one spelling of a cause, and the check that the spelling is found."""

from __future__ import annotations

import textwrap

from rule_pages import check_source, loud

from stablelint.finding import Level

HEADER = """
import math
import torch
from torch import nn
from torch.nn import functional as F


def build():
    return Net()

"""


def check_spelling(code: str, body: str) -> None:
    """The only finding above a note is the rule's, at the line of ``class Net`` marked ``# finding``."""
    source = f"{HEADER}{body}"
    (marked,) = (number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# finding"))
    found = check_source(source, code, probe=False)
    places = [(finding.code, finding.site.line) for finding in found.findings if finding.level > Level.NOTE]
    assert places == [(code, marked)], loud(found)


def indented(text: str, by: int) -> str:
    """Statements of a spelling, moved to where the template has them."""
    return textwrap.indent(text.strip(), " " * by)
