"""Comments silence what they name on their lines, and every comment that does not is reported."""

from __future__ import annotations

import pytest

from stablelint.finding import Finding, Level, Report, Standing, TargetReport
from stablelint.site import Site
from stablelint.suppress import comments, suppress, suppress_report

KNOWN = {"SL401", "unscaled-attention", "SL201", "norm-on-skip"}


def finding(line: int, code: str = "SL401", name: str = "unscaled-attention", file: str | None = "model.py") -> Finding:
    return Finding(code, name, Level.ERROR, "message", Site("attn", file, line, 1), Standing.PREDICTED)


def run(text: str, *findings: Finding, **options):
    kept, remarks = suppress(findings, lambda path: text.splitlines(), KNOWN, **options)
    return [found.site.line for found in kept], list(remarks)


@pytest.mark.parametrize("word", ["SL401", "unscaled-attention", "norm-on-skip, SL401", " unscaled-attention "])
def test_code_and_name_silence_the_finding_on_their_line(word):
    kept, remarks = run(f"x = 1\ny = f(x)  # stablelint: ignore[{word}] scaled elsewhere\n", finding(2), finding(1))
    assert kept == [1]
    assert all("norm-on-skip" in remark for remark in remarks)


def test_another_rule_stays():
    kept, remarks = run("y = f(x)  # stablelint: ignore[norm-on-skip]\n", finding(1))
    assert kept == [1]
    assert remarks == ["model.py:1: nothing to ignore for norm-on-skip here; remove it from the comment"]


def test_alone_on_a_line_it_covers_the_statement_that_follows():
    text = "# stablelint: ignore[SL401] because\n# more words\n\nx = f(\n    1,\n    2,\n)\nz = 1\n"
    kept, remarks = run(text, finding(4), finding(6), finding(8))
    assert kept == [8]
    assert remarks == []


def test_inside_brackets_it_covers_the_next_line_only():
    text = "net = f(\n    # stablelint: ignore[SL401]\n    a,\n    b,\n)\n"
    assert run(text, finding(3), finding(4)) == ([4], [])


def test_before_a_compound_statement_it_covers_the_header_only():
    text = "# stablelint: ignore[SL401]\nfor x in y:\n    f(x)\n"
    kept, remarks = run(text, finding(3))
    assert kept == [3]
    assert len(remarks) == 1


def test_text_in_strings_does_not_count():
    text = 's = "# stablelint: ignore[SL401]"\n"""\n# stablelint: ignore[SL401]\n"""\n'
    assert run(text, finding(1), finding(3)) == ([1, 3], [])


def test_after_another_comment():
    assert run("y = f(x)  # noqa: E501  # stablelint:ignore[SL401]\n", finding(1)) == ([], [])


@pytest.mark.parametrize(
    "comment", ["# stablelint: ignore", "# stablelint: ignore[]", "# stablelint: ignore all of it"]
)
def test_a_comment_that_names_no_rule_ignores_nothing(comment):
    kept, remarks = run(f"y = f(x)  {comment}\n", finding(1))
    assert kept == [1]
    assert remarks == ["model.py:1: this comment ignores nothing; name the rules: # stablelint: ignore[rule-name]"]


def test_unknown_names_and_words_are_reported_with_the_nearest():
    _, remarks = run("a  # stablelint: ignore[unscaled-atention]\nb  # stablelint: disable[SL401]\n", finding(9))
    assert remarks[0].endswith('"unscaled-atention"; did you mean "unscaled-attention"?')
    assert '"disable" is no word for stablelint' in remarks[1]


def test_a_rule_that_did_not_run_is_not_called_unused():
    assert run("a  # stablelint: ignore[SL201]\n", finding(9), active={"SL401"}) == ([9], [])


def test_files_without_findings_are_read_when_named():
    kept, remarks = suppress((), lambda path: ["x  # stablelint: ignore[SL401]"], KNOWN, files=["other.py"])
    assert kept == ()
    assert remarks[0].startswith("other.py:1: nothing to ignore")


def test_findings_without_a_place_and_broken_source_are_left_alone():
    nowhere = finding(1, file=None)
    assert run("def f(:\n  (\n", nowhere, finding(1)) == ([1, 1], [])


def test_no_comment_no_work():
    assert comments(["x = 1", "y = 2  # a comment"]) == []


def test_a_comment_at_the_end_of_the_file_is_still_reported():
    assert [comment.line for comment in comments(["x = 1", "# stablelint: ignore[SL401]"])] == [2]


def _report(*targets: TargetReport) -> Report:
    return Report(targets)


TEXT = ["a  # stablelint: ignore[SL401]", "b  # stablelint: ignore[SL401]", "c"]


def test_a_comment_used_by_one_target_is_used_for_all():
    report = _report(
        TargetReport("model.py:A", findings=(finding(1), finding(3))),
        TargetReport("model.py:B", findings=(finding(2),)),
    )
    judged = suppress_report(report, lambda path: TEXT, KNOWN)
    assert [[found.site.line for found in target.findings] for target in judged.targets] == [[3], []]
    assert [target.remarks for target in judged.targets] == [(), ()]


def test_an_unused_comment_is_told_once_also_in_a_file_without_findings():
    report = _report(TargetReport("model.py:A"), TargetReport("model.py:B", findings=(finding(1),)))
    judged = suppress_report(report, lambda path: TEXT, KNOWN)
    assert [len(target.remarks) for target in judged.targets] == [1, 0]
    assert "model.py:2: nothing to ignore" in judged.targets[0].remarks[0]


def test_absolute_and_relative_names_of_a_file_are_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = _report(TargetReport("model.py", findings=(finding(1, file=str(tmp_path / "model.py")), finding(2))))
    judged = suppress_report(report, lambda path: TEXT, KNOWN)
    assert judged.targets[0].findings == ()
    assert judged.targets[0].remarks == ()


def test_nothing_is_called_unused_when_a_target_failed():
    report = _report(TargetReport("model.py:A", status="failed", reason="x"), TargetReport("torchvision:x"))
    assert [target.remarks for target in suppress_report(report, lambda path: TEXT, KNOWN).targets] == [(), ()]
