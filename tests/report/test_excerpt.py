"""Source excerpts mark the line and the column, and fit."""

from __future__ import annotations

import pytest

from stablelint.report.source import excerpt, read_source


def test_neighbours_margin_and_caret():
    lines = ["def f():", "    a = 1", "    b = g(a)", "    return b"]
    assert excerpt(lines, 3, 9, 80) == ["    2 | a = 1", "  > 3 | b = g(a)", "      |     ^", "    4 | return b"]


def test_blank_neighbours_are_left_out():
    assert excerpt(["a", "", "b", "", "c"], 3, None, 80) == ["  > 3 | b"]


def test_numbers_are_aligned():
    lines = [f"x{number}" for number in range(1, 12)]
    assert [row[:8] for row in excerpt(lines, 9, None, 80)] == ["     8 |", "  >  9 |", "    10 |"]


@pytest.mark.parametrize("line", [0, -1, 3])
def test_a_line_that_the_file_does_not_have(line):
    assert excerpt(["a", "b"], line, 1, 80) == []


@pytest.mark.parametrize("column", [None, 1, 50, 100, 150, 200, 201, 999])
@pytest.mark.parametrize("width", [40, 80])
def test_long_lines_are_cut_and_the_caret_stays_below_its_column(column, width):
    text = "".join(chr(ord("a") + index % 26) for index in range(200))
    rows = excerpt([text, text], 1, column, width)
    assert all(len(row) <= width for row in rows)
    carets = [row for row in rows if row.endswith("^")]
    assert len(carets) == (column is not None and column <= 200)
    if carets and column not in (1,):
        assert rows[0][len(carets[0]) - 1] == text[column - 1]


def test_tabs_do_not_move_the_caret():
    rows = excerpt(["if x:", "\tfoo(bar)"], 2, 6, 80)
    assert rows[1][rows[2].index("^")] == "b"


def test_read_source_follows_the_declared_encoding(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
    assert read_source(str(path))[1] == "x = 'é'"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"# coding: no-such-codec\n"])
def test_what_cannot_be_read_has_no_lines(tmp_path, content):
    path = tmp_path / "file.py"
    if content is not None:
        path.write_bytes(content)
    assert read_source(str(path)) == ()
