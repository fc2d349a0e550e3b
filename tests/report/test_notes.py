"""What is said of targets beside their findings: how they were built, what they share, why others were not reached."""

from __future__ import annotations

import pytest

from stablelint.finding import TargetReport
from stablelint.report.notes import (
    construction,
    covered,
    file_of,
    listed,
    most_helpful,
    name_of,
    notes,
    shared,
    unreached,
)


def missed(target: str, reason: str = "why", suggestion: str | None = None, status: str = "skipped") -> TargetReport:
    return TargetReport(target, status=status, reason=reason, suggestion=suggestion)


@pytest.mark.parametrize(
    ("target", "file", "name"),
    [
        ("a/model.py:Net", "a/model.py", "Net"),
        ("a/model.py", "a/model.py", ""),
        ("model.py:build(depth=24)", "model.py", "build(depth=24)"),
        ("package.nets:make", "package.nets:make", "package.nets:make"),
        ("torchvision:resnet18", "torchvision:resnet18", "torchvision:resnet18"),
    ],
)
def test_a_target_is_a_file_and_a_name(target, file, name):
    assert (file_of(target), name_of(target)) == (file, name)


def test_many_names_are_counted():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b and 3 more"


def test_how_a_model_was_built():
    target = TargetReport("m.py:UNet", arguments="UNet(3, classes=1)", origin="the call in train.py:102")
    assert construction(target).one == "built as UNet(3, classes=1): from the call in train.py:102"


def test_what_was_guessed_is_named_with_the_line_to_paste():
    target = TargetReport("m.py:UNet", arguments="UNet(width=8, depth=2)", guessed=("width", "depth"))
    assert construction(target).one == (
        "built as UNet(width=8, depth=2); guessed: width, depth: a verdict on guessed sizes; "
        "to choose them add `def build(): return UNet(width=8, depth=2)`"
    )


def test_a_long_call_is_not_said_twice_and_a_suggestion_comes_first():
    call = f"UNet({', '.join(f'width_{index}=8' for index in range(9))})"
    target = TargetReport("m.py:UNet", arguments=call, guessed=("width_1",))
    assert construction(target).one.endswith("add `def build(): return UNet(...)`")
    told = TargetReport("m.py:UNet", arguments=call, guessed=("width_1",), suggestion="def build(): return small()")
    assert construction(told).one.endswith("add `def build(): return small()`")


def test_a_call_with_an_object_cannot_be_pasted():
    target = TargetReport("m.py:GPT", arguments="GPT(config=<CfgNode>)", guessed=("config.width",))
    assert construction(target).one.endswith("add `def build(): return GPT(...)`")


@pytest.mark.parametrize("arguments", [None, "Net()"])
def test_where_there_was_nothing_to_choose_nothing_is_said(arguments):
    assert list(notes(TargetReport("m.py:Net", arguments=arguments, origin="its signature"))) == []


def test_parts_that_a_model_covers():
    assert covered(TargetReport("m.py:build", models=("GPT", "Block", "Attention"))) == "also covers: Block, Attention"
    assert covered(TargetReport("m.py:GPT", models=("GPT",))) is None


def test_what_several_have_is_shared_and_the_rest_their_own():
    first, second = (
        TargetReport(
            f"m.py:{name}", arguments=f"{name}(width=8)", remarks=("inputs inferred: x", "same", f"only {name}")
        )
        for name in ("A", "B")
    )
    own, common = shared([(target, list(notes(target))) for target in (first, second)])
    assert [[note.one for note in each] for each in own] == [["only A"], ["only B"]]
    assert [(note.many("A, B"), having) for note, having in common] == [
        ("A, B built with (width=8)", [first, second]),
        ("inputs inferred for A, B: x", [first, second]),
        ("A, B: same", [first, second]),
    ]


def test_other_values_or_another_origin_are_not_the_same_call():
    targets = [
        TargetReport("m.py:A", arguments="A(8)", origin="train.py:1"),
        TargetReport("m.py:B", arguments="B(8)", origin="train.py:2"),
        TargetReport("m.py:C", arguments="C(9)", origin="train.py:1"),
    ]
    assert shared([(target, list(notes(target))) for target in targets])[1] == []


def test_a_remark_that_one_target_has_twice_is_its_own():
    own, common = shared([(target := TargetReport("m.py:A", remarks=("x", "x")), list(notes(target)))])
    assert ([note.one for note in own[0]], common) == (["x", "x"], [])


def test_the_same_reason_in_one_file_is_told_once():
    found = unreached(
        [
            missed("m.py:A", "m.py:A needs width"),
            TargetReport("m.py:Fine"),
            missed("n.py:A", "n.py:A needs width"),
            missed("m.py:B", "m.py:B needs width", "def build(): return B(...)"),
            missed("m.py:C", "m.py:C needs width", status="failed"),
            missed("old.py", "old.py:3 raises"),
        ]
    )
    assert [(each.file, each.names, each.sentence(), each.failed) for each in found] == [
        ("m.py", ("A", "B"), "needs width; add `def build(): return B(...)`", False),
        ("m.py", ("C",), "needs width", True),
        ("n.py", ("A",), "needs width", False),
        ("old.py", (), "old.py:3 raises", False),
    ]


def test_a_reason_that_names_its_target_reads_the_same_for_several():
    reasons = [f"no inputs were found that m.py:{name} accepts" for name in "AB"]
    (found,) = unreached([missed(f"m.py:{name}", reason) for name, reason in zip("AB", reasons, strict=True)])
    assert (found.name(), found.sentence()) == ("m.py: A, B", "no inputs were found that it accepts")


def test_advice_that_the_reason_has_is_not_repeated():
    (found,) = unreached([missed("m.py:A", "add `def build(): return A(...)`", "def build(): return A(...)")])
    assert found.sentence() == "add `def build(): return A(...)`"
    assert unreached([missed("m.py:A", "x", "pip install x")])[0].sentence() == "x; try `pip install x`"


def test_the_line_that_helps_most_is_the_one_that_reaches_most():
    build = "def build(): return Net(...)"
    targets = [missed(f"{name}.py:Net", suggestion=build) for name in "abc"]
    targets += [missed(f"{name}.py:Net", suggestion="pip install einops") for name in "de"]
    targets += [TargetReport("f.py:Net", suggestion="pip install timm")] * 3  # reached: nothing is missing
    assert most_helpful(targets) == "`pip install einops` would reach 2 more models"  # a build() is for one file
    assert most_helpful(targets[:1]) == f"`{build}` in a.py would reach 1 more model"
    assert most_helpful([missed("a.py"), TargetReport("b.py")]) is None
