"""Arguments that nobody gave: found, guessed, mended, and said."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import Request

Write = Callable[..., str]


def build(spec: str = "model.py") -> Built:
    (candidate,) = candidates(Request(spec))
    return candidate.build()


def plan(source: str, write: Write) -> tuple[str, str, tuple[str, ...]]:
    write("model.py", source)
    found = build().plan
    assert found is not None
    return found.shown, found.origin, found.guessed


def net(parameters: str, body: str) -> str:
    lines = textwrap.indent(textwrap.dedent(body), " " * 8)
    forward = "    def forward(self, x):\n        return self.layers(x)\n"
    return (
        f"class Net(nn.Module):\n    def __init__(self, {parameters}):\n        super().__init__()\n{lines}\n{forward}"
    )


STACK = "self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])"


def test_a_call_in_a_training_script_is_used_and_said(write: Write) -> None:
    write("train.py", "from model import Net\nnet = Net(24, depth=3)\n")
    assert plan(net("width, depth", STACK), write) == ("Net(width=24, depth=3)", "the call in train.py:4", ())


def test_what_a_call_does_not_tell_is_guessed(write: Write) -> None:
    write("train.py", "from model import Net\nnet = Net(len(data), depth=3)\n")
    shown, origin, guessed = plan(net("width, depth", STACK), write)
    assert (shown, origin, guessed) == ("Net(width=64, depth=3)", "the call in train.py:4", ("width",))


def test_without_any_call_usual_values_are_guessed(write: Write) -> None:
    shown, _, guessed = plan(net("width, depth", STACK), write)
    assert shown == "Net(width=64, depth=2)"
    assert guessed == ("width", "depth")


CONSTRAINTS = {
    "heads divide the width": ("dim, heads", "assert dim % heads == 0\nself.layers = nn.Linear(dim, dim)"),
    "a list of widths": (
        "widths",
        "self.layers = nn.Sequential(*[nn.Linear(a, b) for a, b in zip(widths, widths[1:])])",
    ),
    "an odd kernel": ("kernel", "assert kernel % 2\nself.layers = nn.Conv1d(4, 4, kernel, padding=kernel // 2)"),
    "a name of a layer": (
        "size, rnn_type",
        "assert hasattr(nn, rnn_type)\nself.layers = getattr(nn, rnn_type)(size, size)",
    ),
    "a text out of some": (
        "kind",
        "if kind == 'deep':\n    self.layers = nn.Linear(4, 4)\nelse:\n    raise ValueError(kind)",
    ),
    "a key of a table": ("size", "self.layers = nn.Linear({'tiny': 4, 'large': 8}[size], 4)"),
    "an activation": ("act_layer", "self.layers = nn.Sequential(nn.Linear(4, 4), act_layer())"),
    "a norm": ("norm_layer", "self.layers = nn.Sequential(nn.Linear(4, 4), norm_layer(4))"),
    "a switch": ("use_bias", "self.layers = nn.Linear(4, 4, bias=use_bias)"),
    "a dropout rate": ("drop_rate", "self.layers = nn.Sequential(nn.Linear(4, 4), nn.Dropout(drop_rate))"),
    "a matrix": ("weight", "self.layers = nn.Linear(64, 64)\nself.layers.weight = nn.Parameter(weight.view(64, -1))"),
}


@pytest.mark.parametrize("case", CONSTRAINTS)
def test_guesses_are_mended_until_the_constructor_takes_them(case: str, write: Write) -> None:
    parameters, body = CONSTRAINTS[case]
    write("model.py", net(parameters, body))
    assert build().models == ("Net",)


CONFIGURED = """
class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.Linear(config.n_embd, config.n_embd)
    def forward(self, x):
        return self.layer(x)
class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(*[Layer(config) for _ in range(config.n_layer)])
    def forward(self, x):
        return self.layers(x)
"""


def test_a_configuration_is_made_of_the_fields_that_are_read(write: Write) -> None:
    shown, _, guessed = plan(CONFIGURED, write)
    assert shown == "Net(config=SimpleNamespace(n_layer=2, n_embd=64))"
    assert guessed == ("config.n_layer", "config.n_embd")
    assert build().models == ("Net", "Layer")


def test_a_dict_of_the_file_gives_the_fields(write: Write) -> None:
    source = "SMALL = {'n_layer': 3, 'n_embd': 12, 'lr': 0.1}\n" + CONFIGURED.replace(
        "config.n_embd", "config['n_embd']"
    )
    shown, origin, guessed = plan(source.replace("config.n_layer", "config['n_layer']"), write)
    assert shown == "Net(config=SimpleNamespace(n_layer=3, n_embd=12))"
    assert origin == "the dict in model.py:3"
    assert guessed == ()


def test_a_class_of_settings_with_required_fields(write: Write) -> None:
    settings = "from dataclasses import dataclass\n@dataclass\nclass Args:\n    n_embd: int\n    n_layer: int\n"
    source = settings + CONFIGURED.replace("def __init__(self, config)", "def __init__(self, config: Args)")
    shown, _, guessed = plan(source, write)
    assert shown == "Net(config=Args(n_embd=64, n_layer=2))"
    assert guessed == ("config.n_embd", "config.n_layer")


def test_settings_that_a_constructor_changes_are_fresh_every_time(write: Write) -> None:
    write("train.py", "from model import Net\ncfg = {'n_embd': 8, 'n_layer': 2}\nnet = Net(cfg)\n")
    source = CONFIGURED.replace("config.n_embd", "config['n_embd']").replace("config.n_layer", "config.pop('n_layer')")
    write("model.py", source)
    built = build()
    assert len(built.model.layers) == len(built.rebuild(1)[0].layers) == 2


def test_a_wrapper_gets_the_module_that_a_call_gives_it(write: Write) -> None:
    wrapper = """
        class Body(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.layer = nn.Linear(width, width)
            def forward(self, x):
                return self.layer(x)
        class Wrapper(nn.Module):
            def __init__(self, net):
                super().__init__()
                self.net = net
            def forward(self, x):
                return self.net(x) + x
        """
    write("demo.py", "from model import Body, Wrapper\nmodel = Wrapper(Body(width=12))\n")
    write("model.py", wrapper)
    built = build("model.py:Wrapper")
    assert built.plan is not None
    assert built.plan.shown == "Wrapper(net=Body(width=12))"
    assert built.plan.origin == "the call in demo.py:4"
    assert built.models == ("Wrapper", "Body")


def test_an_environment_has_spaces(write: Write) -> None:
    body = "self.layers = nn.Linear(env.single_observation_space.shape[0], env.single_action_space.n)"
    write("model.py", net("env", body))
    assert build().model.layers.in_features == 8


def test_released_weights_are_not_needed(write: Write) -> None:
    body = """
        state = torch.hub.load_state_dict_from_url("https://example.org/net.pth")
        self.layers = nn.Linear(width, width)
        self.layers.load_state_dict(state["model"])
        """
    write("model.py", "import torch\n" + net("width", body))
    built = build()
    assert built.released
    assert any("net.pth" in remark for remark in built.remarks)


def test_what_cannot_be_built_names_the_arguments_and_what_was_tried(write: Write) -> None:
    from stablelint.errors import BuildTargetError

    write("model.py", net("width", "raise RuntimeError('never')"))
    (candidate,) = candidates(Request("model.py"))
    with pytest.raises(
        BuildTargetError, match=r"model.py:Net needs width, and no values .*RuntimeError: never"
    ) as caught:
        candidate.build()
    assert caught.value.tried


def test_a_class_that_makes_itself_is_made_like_that(write: Write) -> None:
    source = """
        class Net(nn.Module):
            def __init__(self, blocks=None, settings=None):
                super().__init__()
                assert isinstance(blocks, list), "blocks should be a list"
                self.layers = nn.Sequential(*[nn.Linear(each, each) for each in blocks])
            @classmethod
            def from_name(cls, name):
                return cls({"small": [4], "large": [4, 4]}[name])
            def forward(self, x):
                return self.layers(x)
        """
    write("README.md", "```python\nfrom model import Net\nnet = Net.from_name('large')\n```\n", imports=False)
    write("model.py", source)
    built = build()
    assert built.plan is not None
    assert built.plan.origin == "the call in README.md:3"
    assert len(built.model.layers) == 2


def test_flags_of_absl_are_options(write: Write) -> None:
    script = """
        from absl import flags
        from model import Net
        FLAGS = flags.FLAGS
        flags.DEFINE_integer("width", 12, help="of all layers")
        def main():
            return Net(FLAGS.width, 3)
        """
    write("train.py", script)
    assert plan(net("width, depth", STACK), write)[0] == "Net(width=12, depth=3)"
