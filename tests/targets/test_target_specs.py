from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stablelint.errors import UsageError
from stablelint.targets.spec import Parts, expand, split

Write = Callable[..., str]


def specs(*given: str) -> list[str]:
    return [request.spec for request in expand(given)]


def test_neither_specs_nor_the_parent_of_the_worker_load_torch() -> None:
    code = "import stablelint.targets.spec, stablelint.targets.worker, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_form_is_understood(write: Write) -> None:
    write("model.py", "")
    write("pkg/__init__.py", "")
    assert split("model.py") == Parts("file", "model.py")
    assert split("model.py:Net") == Parts("file", "model.py", "Net")
    assert split("pkg.inner:make") == Parts("module", "pkg.inner", "make")
    assert split("torchvision:resnet18") == Parts("torchvision", "torchvision", "resnet18")
    assert split("timm:vit_tiny") == Parts("timm", "timm", "vit_tiny")


def test_a_folder_becomes_its_python_files_in_order(write: Write) -> None:
    wanted = ["b/c/d.py", "b/a.py", "b/z.py"]
    skipped = ["test_a.py", "a_test.py", "conftest.py", "setup.py", ".git/x.py", "__pycache__/x.py", "env/lib/x.py"]
    for name in wanted + [f"b/{name}" for name in skipped]:
        write(name, "")
    write("b/env/pyvenv.cfg", "")
    found = expand(["b"])
    assert [request.spec for request in found] == ["b/a.py", "b/z.py", "b/c/d.py"]
    assert all(request.swept for request in found)


def test_what_is_named_twice_is_checked_once(write: Write) -> None:
    write("model.py", "")
    assert specs("model.py", "./model.py", "model.py:Net") == ["model.py", "model.py:Net"]


def test_a_test_file_that_is_named_is_taken(write: Write) -> None:
    write("test_model.py", "")
    assert specs("test_model.py") == ["test_model.py"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("modle.py", 'there is no file or folder modle.py; did you mean "model.py"?'),
        ("modle.py:Net", 'there is no file or folder modle.py; did you mean "model.py"?'),
        ("torchvison:resnet18", 'did you mean "torchvision:resnet18"?'),
        ("hf:models/config.json", "there is no file or folder models/config.json"),
        ("hf:", "not complete"),
        ("hf:LlamaConfig?hidden_act=relu", "a text needs quotes: hidden_act='relu'"),
        ("timm:vit_tiny_patch16_224?depth", "write what follows the question mark as name=value&name=value"),
        ("model.py:build(depth=n)", "arguments must be literals"),
        ("model.py:build(*[1])", "arguments must be literals"),
        ("model.py:build(1)(2)", "not the arguments of one call"),
        ("notes.txt", "notes.txt is not a Python file"),
        ("model.py:", "not complete"),
        ("empty", "there are no Python files below empty"),
        ("empty:Net", "empty is a folder"),
        ("a b:c", "is not a target"),
        ("resnet18", "torchvision:NAME"),
        ("json.decoder", "json.decoder:NAME"),
    ],
)
def test_what_does_not_exist_is_one_clear_sentence(spec: str, sentence: str, write: Write, user_folder: Path) -> None:
    write("model.py", "")
    write("notes.txt", "")
    (user_folder / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        expand([spec])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
