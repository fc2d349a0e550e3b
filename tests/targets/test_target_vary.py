"""Other values of one argument: of factories, classes, settings, configurations, and constructors in a factory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from stablelint.errors import TargetError
from stablelint.targets.build import Built, candidates
from stablelint.targets.callplan import Call
from stablelint.targets.spec import expand
from stablelint.targets.vary import Variation, arguments_of, changed_call, flat, vary, with_field

Write = Callable[..., str]

STACK = """
from dataclasses import dataclass, field

class Stack(nn.Module):
    def __init__(self, depth, width=8, gain=1.0, bias=True, limit=None, **more):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width, bias) for _ in range(depth)))
    def forward(self, x):
        return self.layers(x)
"""

FACTORIES = {
    "a factory with the argument": "def build(depth=3):\n    return Stack(depth)\n",
    "a factory that hands it on": "def build(**options):\n    return Stack(**{'depth': 3, **options})\n",
    "a factory without arguments": "def build():\n    return Stack(3)\n",
    "a call site in the file": "if False:\n    Stack(3)\n",
    "a settings class": """
@dataclass
class Config:
    depth: int = 3
def build(config: Config):
    return Stack(config.depth)
""",
    "settings inside of settings": """
@dataclass
class Size:
    depth: int = 3
@dataclass
class Config:
    size: Size = field(default_factory=Size)
class Net(Stack):
    def __init__(self, config: Config):
        super().__init__(config.size.depth)
""",
    "settings that the factory makes": """
@dataclass
class Config:
    depth: int = 3
class Net(Stack):
    def __init__(self, config):
        super().__init__(config.depth)
def build():
    return Net(Config())
""",
    "a dict of settings": "def build(options={'depth': 3}):\n    return Stack(**options)\n",
    "one of two instances": "def build():\n    Stack(3)\n    return Stack(3)\n",
    "an inherited constructor": "class Net(Stack):\n    pass\ndef build():\n    return Net(3)\n",
}


def variation(spec: str, argument: str) -> Variation:
    (request,) = expand([spec])
    (candidate,) = candidates(request)
    return vary(request, candidate.name, argument)


def built(found: Variation, value: int) -> Built:
    return found.at(value)[0].build()


@pytest.mark.parametrize("source", FACTORIES.values(), ids=FACTORIES)
def test_the_argument_is_found_wherever_it_is(source: str, write: Write) -> None:
    spec = write("model.py", STACK + source)
    found = variation(spec, "depth")
    assert found.present == 3
    for value in (5, 2):
        assert len(built(found, value).model.layers) == value
    assert len(built(variation(spec, "depth"), 3).model.layers) == 3, "nothing stays changed"


def test_a_class_counts_like_a_factory_and_written_arguments_are_kept(write: Write) -> None:
    write("model.py", STACK)
    found = variation("model.py:Stack(2, width=16)", "depth")
    assert found.present == 2
    model = built(found, 4).model
    assert (len(model.layers), model.layers[0].in_features) == (4, 16)
    assert built(variation("model.py:Stack(2, width=16)", "width"), 32).model.layers[1].in_features == 32


def test_the_first_try_allocates_no_weights_and_the_second_does(write: Write) -> None:
    write("model.py", STACK + "def build(width=512):\n    return Stack(2, width)\n")
    virtual, allocated = (each.build() for each in variation("model.py", "width").at(1024))
    assert virtual.model.layers[0].weight.is_meta
    assert not allocated.model.layers[0].weight.is_meta
    assert virtual.origins is not None


@pytest.mark.parametrize(
    ("spec", "argument", "sentence"),
    [
        ("model.py:build", "dpeth", 'model.py:build has no argument dpeth; did you mean "depth"?'),
        ("model.py:build", "zzz", "model.py:build has no argument zzz; its integers are depth, width"),
        ("model.py:build", "gain", "gain of model.py:build is 1.0, not an integer"),
        ("model.py:build", "bias", "bias of model.py:build is True, not an integer"),
        ("model.py:two", "depth", "depth of model.py:two may be first.depth or second.depth: write which"),
        ("model.py:net", "depth", "model.py:net is a model that the file has built: name a factory or a class"),
        ("model.py:plain", "depth", "model.py:plain takes no integer argument, so depth cannot be varied"),
        ("timm:vit_tiny_patch16_224", "deth", 'timm:vit_tiny_patch16_224 has no argument deth; did you mean "depth"?'),
        ("hf:LlamaConfig", "num_hiden_layers", 'hf:LlamaConfig has no argument num_hiden_layers; did you mean "num_hi'),
        ("hf:LlamaConfig", "rms_norm_eps", "rms_norm_eps of hf:LlamaConfig is 1e-06, not an integer"),
    ],
)
def test_what_cannot_be_varied_is_one_sentence(spec: str, argument: str, sentence: str, write: Write) -> None:
    write(
        "model.py",
        STACK
        + """
def build(depth=3, width=8, gain=1.0, bias=True):
    return Stack(depth, width)
def two(first={'depth': 1}, second={'depth': 2}):
    return Stack(first['depth'] + second['depth'])
def plain():
    return nn.Sequential(nn.Linear(8, 8))
net = Stack(2)
""",
    )
    if spec.startswith("hf:LlamaConfig"):
        spec += "?num_hidden_layers=2&hidden_size=64&intermediate_size=64&vocab_size=100&num_attention_heads=4"
        sentence = sentence.replace("hf:LlamaConfig", spec)
    with pytest.raises(TargetError) as caught:
        variation(spec, argument)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_an_argument_without_a_value_has_no_present(write: Write) -> None:
    write("model.py", STACK + "def build(depth: int | None = None):\n    return Stack(depth or 3)\n")
    found = variation("model.py", "depth")
    assert found.present is None
    assert len(built(found, 6).model.layers) == 6


def test_fields_of_a_configuration_also_by_their_common_names() -> None:
    small = "hf:gpt2?n_embd=32&n_head=2&vocab_size=100&n_positions=64"
    for name in ("n_layer", "num_hidden_layers"):
        found = variation(small, name)
        assert found.present == 12
        (candidate,) = found.at(3)
        model = candidate.build().model
        assert (len(model.transformer.h), model.config.n_embd) == (3, 32)


def test_a_value_that_a_configuration_refuses_is_a_sentence() -> None:
    found = variation("hf:gpt2?n_embd=32&n_head=2&vocab_size=100&n_positions=64", "n_head")
    with pytest.raises(TargetError, match="divisible"):
        built(found, 5)


@pytest.mark.parametrize(
    ("spec", "argument", "present", "value", "part"),
    [
        ("timm:vit_tiny_patch16_224?depth=2", "depth", 2, 3, "blocks"),
        ("torchvision:vit_b_16?num_classes=10", "num_layers", 12, 2, "encoder.layers"),
    ],
)
def test_models_of_libraries(spec: str, argument: str, present: int, value: int, part: str) -> None:
    found = variation(spec, argument)
    assert found.present == present
    first = found.at(value)[0].build().model
    assert len(first.get_submodule(part)) == value  # type: ignore[arg-type]


def test_settings_are_copied_and_calls_made_anew() -> None:
    class Config:
        def __init__(self, dim: int = 8, heads: int = 2) -> None:
            self.dim, self.each = dim, dim // heads

    def build(config: Config, depth: int = 1) -> nn.Module:
        return nn.Linear(config.each, depth)

    call = Call(build, (), {"config": Call(Config)})
    assert flat(arguments_of(call))["config.dim"] == 8
    wider = changed_call(call, "config.dim", 64)
    assert (wider().in_features, call().in_features) == (32, 4), "what follows from a field is computed again"
    given = {"depth": 1, "inner": {"size": 2}}
    assert with_field(given, "inner.size", 5) == {"depth": 1, "inner": {"size": 5}}
    assert given["inner"] == {"size": 2}


def test_a_signature_that_cannot_be_read_has_no_arguments() -> None:
    assert arguments_of(Call(dict, ([],))) == {}
