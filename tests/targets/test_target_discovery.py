from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stablelint.errors import BuildTargetError, ImportTargetError, TargetError
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import Request, expand

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layer = nn.Linear(width, 2)
    def forward(self, x):
        return self.layer(x)
"""


def names(spec: str) -> list[str]:
    return [candidate.name for candidate in candidates(Request(spec))]


def build(spec: str) -> Built:
    (candidate,) = candidates(Request(spec))
    return candidate.build()


def failure(spec: str) -> str:
    def build_all() -> None:
        for candidate in candidates(Request(spec)):
            candidate.build()

    with pytest.raises(TargetError) as caught:
        build_all()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_factory_settles_it(write: Write) -> None:
    write("model.py", NET + "def build(): return Net(4)\nclass Other(Net): pass\nready = Net()\n")
    assert names("model.py") == ["model.py:build"]
    assert build("model.py").inputs.args[0].shape == (16, 4)


def test_functions_annotated_with_a_model_are_targets(write: Write) -> None:
    write("model.py", NET + "def wide() -> Net: return Net(64)\ndef helper() -> int: return 1\n")
    assert names("model.py") == ["model.py:wide"]


def test_functions_that_return_a_model_without_saying_so_are_targets(write: Write) -> None:
    write("model.py", NET.replace("width=8", "width") + "def net64():\n    net = Net(64)\n    return net\n")
    assert names("model.py") == ["model.py:net64"]


def test_functions_that_make_parts_are_no_targets(write: Write) -> None:
    source = textwrap.dedent("""
        def activation() -> nn.Module: return nn.PReLU()
        def block(width=4): return nn.Sequential(nn.Linear(width, width), activation())
        def stack(): return nn.Sequential(block(), block())
    """)
    write("model.py", source)
    assert names("model.py") == ["model.py:stack"]
    write("other.py", source + "def build(): return stack()\ndef second() -> nn.Module: return block()\n")
    assert names("other.py") == ["other.py:build", "other.py:second"]


def test_classes_in_the_order_of_their_definition(write: Write) -> None:
    write("model.py", NET + NET.replace("Net", "Another"))
    assert names("model.py") == ["model.py:Net", "model.py:Another"]


def test_a_class_that_is_only_a_part_of_another_is_no_target(write: Write) -> None:
    whole = """
        class Whole(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = Net()
            def forward(self, x):
                return self.net(x)
        """
    write("model.py", NET + textwrap.dedent(whole))
    assert names("model.py") == ["model.py:Whole"]


def test_abstract_and_private_classes_losses_and_imported_ones_are_no_targets(write: Write) -> None:
    write("parts.py", NET)
    source = """
        import abc
        from parts import Net
        class Base(nn.Module):
            pass
        class Abstract(nn.Module, abc.ABC):
            @abc.abstractmethod
            def forward(self, x): ...
        class _Hidden(Net): pass
        class Loss(nn.Module):
            def forward(self, a, b): return (a - b).mean()
        class Mine(Net): pass
        """
    write("model.py", source)
    assert names("model.py") == ["model.py:Mine"]


def test_a_class_with_a_config_is_built_from_the_default_config(write: Write) -> None:
    source = """
        from dataclasses import dataclass
        @dataclass
        class Settings:
            width: int = 12
        class Net(nn.Module):
            def __init__(self, settings: Settings):
                super().__init__()
                self.layer = nn.Linear(settings.width, 2)
            def forward(self, x):
                return self.layer(x)
        """
    write("model.py", source)
    assert build("model.py").model.layer.in_features == 12


CONFIGURED = """
        from dataclasses import dataclass
        @dataclass
        class NetConfig:
            width: int = 12
        class Layer(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.layer = nn.Linear(config.width, config.width)
            def forward(self, x):
                return self.layer(x)
        class Net(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.layers = nn.Sequential(Layer(config), Layer(config))
            def forward(self, x):
                return self.layers(x)
        """


def test_a_parameter_without_annotation_that_is_called_config_gets_the_config_of_the_file(write: Write) -> None:
    write("model.py", CONFIGURED)
    assert names("model.py") == ["model.py:Net"]
    assert build("model.py").model.layers[0].layer.in_features == 12


def test_of_several_configs_the_one_that_is_named_after_the_model_counts(write: Write) -> None:
    other = """
        @dataclass
        class TrainConfig:
            rate: float = 0.1
        """
    write("model.py", CONFIGURED + other)
    assert names("model.py") == ["model.py:Net"]
    write("unclear.py", CONFIGURED.replace("NetConfig", "SizeConfig") + other)
    assert build("unclear.py").model.layers[0].layer.in_features == 12  # the one that has the fields which are read


@pytest.mark.parametrize("call", ["Net(5, depth=2)", "Net(WIDTH, 2)", "Net(width=5, depth=2)"])
def test_a_class_is_built_as_the_file_itself_calls_it(call: str, write: Write) -> None:
    source = f"""
        WIDTH = 5
        class Net(nn.Module):
            def __init__(self, width, depth):
                super().__init__()
                self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
            def forward(self, x):
                return self.layers(x)
        if __name__ == "__main__":
            net = {call}
        """
    write("model.py", source)
    model = build("model.py").model
    assert [layer.in_features for layer in model.layers] == [5, 5]


def test_a_call_with_unknown_arguments_is_not_evaluated_and_its_values_are_guessed(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("model.py", NET.replace("width=8", "width") + "def main(): Net(print('never'))\n")
    built = build("model.py")
    assert built.plan is not None
    assert built.plan.guessed == ("width",)
    assert "never" not in capsys.readouterr().out


def test_module_level_models_are_targets_and_fresh_at_every_rebuild(write: Write) -> None:
    write("model.py", NET + "net = Net(4)\nloss = nn.CrossEntropyLoss()\n")
    assert names("model.py") == ["model.py:net"]
    built = build("model.py")
    fresh, inputs = built.rebuild(1)
    assert fresh is not built.model
    assert inputs.args[0].shape == (16, 4)


def test_a_file_without_a_model_says_what_to_add_unless_it_was_swept_up(write: Write) -> None:
    write("folder/helpers.py", "def add(a, b): return a + b\n")
    assert failure("folder/helpers.py") == ("folder/helpers.py defines no model; add `def build(): return ...`")
    (request,) = expand(["folder"])
    assert candidates(request) == []


def test_names_in_files_and_modules(write: Write) -> None:
    write("pkg/__init__.py", "")
    write("pkg/nets.py", "from .sizes import WIDTH\n" + NET + "def small(): return Net(WIDTH)\n")
    write("pkg/sizes.py", "WIDTH = 3\n")
    for spec in ("pkg/nets.py:small", "pkg.nets:small"):
        assert build(spec).inputs.args[0].shape == (16, 3)
    assert names("pkg/nets.py:Net") == ["pkg/nets.py:Net"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("model.py:Nte", 'model.py has no Nte; did you mean "Net"?'),
        ("model.py:needs", "model.py:needs needs size, and no values were found with which it can be built"),
        ("model.py:WIDTH", "is a int, not a factory"),
        ("model.py:number", "model.py:number returns a int, not an nn.Module"),
        ("pkg.modle:Net", "there is no module pkg.modle"),
    ],
)
def test_wrong_names_are_one_sentence(spec: str, sentence: str, write: Write) -> None:
    write("model.py", NET + "WIDTH = 1\ndef needs(size): return Net(0 * size - 1)\ndef number(): return 1\n")
    write("pkg/__init__.py", "")
    assert sentence in failure(spec)


def test_two_folders_may_each_have_a_module_of_the_same_name(write: Write) -> None:
    for folder, width in (("a", 3), ("b", 4)):
        write(f"{folder}/utils.py", f"WIDTH = {width}\n")
        write(f"{folder}/model.py", "from utils import WIDTH\n" + NET + "def build(): return Net(WIDTH)\n")
    first, second = candidates(Request("a/model.py")), candidates(Request("b/model.py"))
    assert first[0].build().model.layer.in_features == 3
    assert second[0].build().model.layer.in_features == 4


def test_what_a_file_changes_in_the_process_does_not_reach_the_next(write: Write, user_folder: Path) -> None:
    write("a/model.py", "import os\nos.chdir('a')\ntorch.set_default_dtype(torch.float64)\n" + NET)
    write("b/model.py", NET)
    assert build("a/model.py").inputs.args[0].dtype == torch.float64
    assert build("b/model.py").inputs.args[0].dtype == torch.float32
    assert Path.cwd() == user_folder


def test_the_same_seed_gives_the_same_model_and_inputs(write: Write) -> None:
    write("model.py", NET + "def example_inputs(): return torch.randn(16, 8)\n")
    built = build("model.py")
    (same, inputs), (other, _) = built.rebuild(0), built.rebuild(1)
    assert torch.equal(built.model.layer.weight, same.layer.weight)
    assert torch.equal(built.inputs.args[0], inputs.args[0])
    assert not torch.equal(same.layer.weight, other.layer.weight)


def test_where_weights_came_from_is_observed(write: Write) -> None:
    write("model.py", NET + "def build():\n    net = Net()\n    nn.init.ones_(net.layer.weight)\n    return net\n")
    built = build("model.py")
    assert built.origins is not None
    name, site = built.origins.parameter(built.model.layer.weight) or ("", None)
    assert (name, site and site.line) == ("ones_", 12)


def test_importing_names_the_line_that_raises(write: Write) -> None:
    source = "def inner():\n    raise ValueError('two\\nlines')\nclass Net(nn.Module):\n    width = inner()\n"
    write("model.py", source)
    sentence = r"^model.py defines no model: model.py:6 raises ValueError: two lines while it is imported$"
    with pytest.raises(BuildTargetError, match=sentence):
        candidates(Request("model.py"))
    sentence = "model.py has no Net: line 6 of model.py was left out (raises ValueError: two lines): it binds Net"
    with pytest.raises(ImportTargetError, match=re.escape(sentence)):
        candidates(Request("model.py:Net"))


def test_building_names_the_line_that_raises(write: Write) -> None:
    write("model.py", "def build():\n    return nn.Linear(-1, 'x')\n")
    with pytest.raises(BuildTargetError, match=r"^model.py:4 raises TypeError: .* while the model is built$"):
        build("model.py")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import sys\nsys.exit(3)\n", "model.py defines no model; add"),
        ("import nowhere_to_be_found\n", "it imports nowhere_to_be_found, which cannot be found"),
        (
            "import nowhere_to_be_found\ndef build():\n    return nowhere_to_be_found.net()\n",
            "model.py:3 uses nowhere_to_be_found.net, which is not installed; install nowhere_to_be_found",
        ),
        ("def build(:\n", "model.py:1 is not valid Python"),
        ("def build(): raise SystemExit\n", "model.py:1 calls sys.exit() while the model is built"),
    ],
)
def test_files_that_end_the_process_or_do_not_parse(source: str, sentence: str, write: Write) -> None:
    write("model.py", source, imports=False)
    assert sentence in failure("model.py")


def test_one_class_that_cannot_be_built_does_not_hide_the_others(write: Write) -> None:
    broken = (
        "class Broken(nn.Module):\n    def __init__(self): raise RuntimeError('no')\n    def forward(self, x): ...\n"
    )
    write("model.py", broken + NET)
    first, second = candidates(Request("model.py"))
    with pytest.raises(BuildTargetError, match=r"model.py:4 raises RuntimeError: no"):
        first.build()
    assert second.build().name == "model.py:Net"
