"""The user's own example inputs: every form, every place, and what is said when the model rejects them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stablelint.errors import InputTargetError
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import Request

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)
    def forward(self, x, scale=1.0):
        return self.layer(x) * scale
"""


def build(spec: str = "model.py") -> Built:
    (candidate,) = candidates(Request(spec))
    return candidate.build()


@pytest.mark.parametrize(
    ("value", "args", "kwargs"),
    [
        ("torch.ones(5, 8)", 1, []),
        ("(torch.ones(5, 8),)", 1, []),
        ("(torch.ones(5, 8), 2.0)", 2, []),
        ("{'x': torch.ones(5, 8), 'scale': 3.0}", 0, ["x", "scale"]),
        ("stablelint.Inputs(torch.ones(5, 8), scale=2.0)", 1, ["scale"]),
    ],
)
def test_every_form_of_example_inputs(value: str, args: int, kwargs: list[str], write: Write) -> None:
    write("model.py", NET + f"def example_inputs():\n    import stablelint\n    return {value}\n")
    built = build()
    assert (len(built.inputs.args), list(built.inputs.kwargs)) == (args, kwargs)
    assert (*built.inputs.args, *built.inputs.kwargs.values())[0].shape == (5, 8)
    assert built.remarks == ()


@pytest.mark.parametrize(
    "place",
    [
        "    def example_inputs(self): return torch.ones(5, 8)\n",
        "    @staticmethod\n    def example_inputs(): return torch.ones(5, 8)\n",
        "    example_inputs = torch.ones(5, 8)\n",
        "    example_input_array = torch.ones(5, 8)\n",
    ],
)
def test_example_inputs_on_the_model(place: str, write: Write) -> None:
    write("model.py", NET + place)
    assert build().inputs.args[0].shape == (5, 8)


def test_example_inputs_are_fresh_under_every_seed(write: Write) -> None:
    write("model.py", NET + "def example_inputs(): return torch.randn(5, 8)\n")
    built = build()
    assert not torch.equal(built.rebuild(1)[1].args[0], built.inputs.args[0])


def test_inputs_that_the_model_rejects_name_the_line(write: Write) -> None:
    write("model.py", NET + "def example_inputs(): return torch.ones(5, 9)\n")
    with pytest.raises(InputTargetError, match=r"^model.py:9 raises RuntimeError: .*when it is called with example_in"):
        build()


def test_example_inputs_that_raise_name_the_line(write: Write) -> None:
    write("model.py", NET + "def example_inputs():\n    raise KeyError('data')\n")
    with pytest.raises(InputTargetError, match=r"^model.py:11 raises KeyError: 'data' while example inputs are made$"):
        build()


def test_a_forward_that_exits_is_one_sentence(write: Write) -> None:
    write("model.py", NET.replace("return self", "exit(4); return self"))
    with pytest.raises(InputTargetError, match=r"^model.py:9 calls sys.exit\(4\) in its forward pass$"):
        build()


def test_example_inputs_for_one_of_several_models_do_not_harm_the_others(write: Write) -> None:
    other = NET.replace("Net", "Wide").replace("8, 2", "9, 2")
    write("model.py", NET + other + "def example_inputs(): return torch.ones(5, 8)\n")
    net, wide = [candidate.build() for candidate in candidates(Request("model.py"))]
    assert net.inputs.args[0].shape == (5, 8)
    assert wide.inputs.args[0].shape == (16, 9)
    assert "inputs inferred" in wide.remarks[0]


def test_lazy_layers_have_shapes_when_the_model_is_handed_over(write: Write) -> None:
    write(
        "model.py",
        NET.replace("nn.Linear(8, 2)", "nn.LazyLinear(2)") + "def example_inputs(): return torch.ones(5, 6)\n",
    )
    built = build()
    assert built.model.layer.in_features == 6
    assert built.rebuild(1)[0].layer.in_features == 6
