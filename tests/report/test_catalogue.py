"""The list of rules and a rule's page in the terminal."""

from __future__ import annotations

import json

import click
import pytest

from stablelint.report.catalogue import render_catalogue, render_catalogue_json, render_page

ENTRIES = [
    {
        "code": "SL202",
        "name": "post-activation-residual",
        "family": "residual",
        "kind": "cause",
        "level": "warning",
        "predicts": ["exploding-gradient", "vanishing-gradient", "dead-units"],
        "summary": "an activation after the addition of every residual block of a deep stack, no identity is left",
        "thresholds": {"min_blocks": 20},
    },
    {
        "code": "SL905",
        "name": "dead-units",
        "family": "symptoms",
        "kind": "symptom",
        "level": None,
        "predicts": [],
        "summary": "units that are zero for every sample",
        "thresholds": {},
    },
]
PAGE = "# title\n\nText with `code`.\n\n```python\n# a comment, no heading\n```\n\n## more\n"


@pytest.mark.parametrize("width", [40, 80])
def test_the_list_fits_and_says_everything(width):
    text = render_catalogue(ENTRIES, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for entry in ENTRIES:
        assert f"{entry['code']} {entry['name']}" in words
        assert entry["summary"] in words
    assert "post-activation-residual (warning) predicts exploding-gradient, vanishing-gradient, dead-units" in words


def test_colour_adds_nothing_but_colour():
    assert click.unstyle(render_catalogue(ENTRIES, colour=True)) == render_catalogue(ENTRIES)
    assert click.unstyle(render_page(PAGE, colour=True)) == PAGE == render_page(PAGE)


def test_json_is_the_same_data():
    assert json.loads(render_catalogue_json(ENTRIES)) == ENTRIES


def test_a_comment_in_code_is_no_heading():
    heading, code = (
        line for line in render_page(PAGE, colour=True).splitlines() if "title" in line or "comment" in line
    )
    assert heading.partition("#")[0] != code.partition("#")[0]
