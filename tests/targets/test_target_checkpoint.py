"""Weights of a checkpoint in the place of the initial ones: every form of file, and what is said of those that fail."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_cases import NET, Net, built, parameters, weights
from safetensors.torch import save_file

from stablelint.errors import CheckpointTargetError
from stablelint.probe import measure
from stablelint.trace import trace
from stablelint.trace.weights import statistics

Write = Callable[..., str]


@pytest.fixture
def net(write: Write) -> str:
    return write("net.py", NET) + ":build"


SAVED: dict[str, Callable[[dict[str, torch.Tensor]], str]] = {}


def saved(function: Callable[[dict[str, torch.Tensor]], str]) -> Callable[[dict[str, torch.Tensor]], str]:
    SAVED[function.__name__.strip("_")] = function
    return function


@saved
def _safetensors(state: dict[str, torch.Tensor]) -> str:
    save_file(state, "weights.safetensors")
    return "weights.safetensors"


@saved
def _shards(state: dict[str, torch.Tensor]) -> str:
    names = list(state)
    for part in (0, 1):
        save_file({name: state[name] for name in names[part::2]}, f"model-{part}.safetensors")
    index = {"weight_map": {name: f"model-{place % 2}.safetensors" for place, name in enumerate(names)}}
    Path("model.safetensors.index.json").write_text(json.dumps(index))
    return "model.safetensors.index.json"


@saved
def _folder(state: dict[str, torch.Tensor]) -> str:
    Path("run").mkdir()
    save_file(state, "run/model.safetensors")
    torch.save({"state": {}}, "run/optimizer.pt")
    return "run"


@saved
def _torch_shards(state: dict[str, torch.Tensor]) -> str:
    torch.save(state, "pytorch_model-1.bin")
    index = {"weight_map": dict.fromkeys(state, "pytorch_model-1.bin")}
    Path("pytorch_model.bin.index.json").write_text(json.dumps(index))
    return "."


@saved
def _lightning(state: dict[str, torch.Tensor]) -> str:
    wrapped = {f"net.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer_states": [{"state": {0: torch.ones(3)}}]}, "last.ckpt")
    return "last.ckpt"


@saved
def _compiled_and_distributed(state: dict[str, torch.Tensor]) -> str:
    torch.save({"model": {f"module._orig_mod.{name}": value for name, value in state.items()}}, "run.pth")
    return "run.pth"


@saved
def _before_torch_1_6(state: dict[str, torch.Tensor]) -> str:
    torch.save(state, "old.pt", _use_new_zipfile_serialization=False)
    return "old.pt"


@pytest.mark.parametrize("form", SAVED)
def test_every_form_gives_its_values_to_parameters_and_buffers(form: str, net: str) -> None:
    state = weights(Net())
    found = built(net, SAVED[form](state))
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert not any("checkpoint" in remark or "lacks" in remark for remark in found.remarks)
    described = parameters(found)
    for name in ("body.0.weight", "head.bias", "body.1.running_var"):
        mean, std, rms, similarity = statistics(state[name])
        each = described[name]
        assert (each.mean, each.std, each.rms) == pytest.approx((mean, std, rms))
        assert each.row_similarity == (None if each.buffer else similarity)
        assert (each.init, each.init_site) == ("checkpoint", None)


def test_further_seeds_of_the_probe_vary_only_the_data(net: str) -> None:
    found = built(net, SAVED["safetensors"](weights(Net())), real=True)
    model, inputs = found.rebuild(1)
    assert model is found.model
    assert not torch.equal(inputs.args[0], found.inputs.args[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, signals = measure(model, found.inputs, rebuild=found.rebuild, seeds=3)
    assert signals.seeds == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_one_exploding_weight_is_seen_without_running(net: str) -> None:
    state = weights(Net())
    state["head.weight"] *= 1e4
    assert parameters(built(net, SAVED["safetensors"](state)))["head.weight"].rms > 1e4


def test_what_one_side_lacks_is_named_once(net: str) -> None:
    state = weights(Net())
    for name in ("head.bias", "body.0.bias", "body.1.num_batches_tracked"):  # a counter is not worth a word
        del state[name]
    extra = {f"aux.{place}.weight": torch.zeros(2) for place in range(5)}
    found = built(net, SAVED["safetensors"]({**state, **extra}))
    remarks = [remark for remark in found.remarks if "weights.safetensors" in remark]
    assert remarks == [
        "weights.safetensors lacks body.0.bias, head.bias, which keep their initial values",
        "weights.safetensors holds aux.0.weight, aux.1.weight, aux.2.weight and 2 more, which the model lacks",
    ]
    described = parameters(found)
    assert described["head.bias"].init == "uniform_"
    assert described["head.weight"].init == "checkpoint"


def test_a_choice_between_weights_that_fit_alike_is_reported(net: str) -> None:
    own, averaged = weights(Net(), 1), weights(Net(), 2)
    torch.save({"ema": averaged, "model": own}, "run.pt")
    found = built(net, "run.pt")
    assert torch.equal(found.model.head.weight, own["head.weight"])
    assert "the names in run.pt fit under model., ema.; the first is used" in found.remarks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_other_floats_are_converted(dtype: torch.dtype, net: str) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights(Net()).items()}
    found = built(net, SAVED["safetensors"](state))
    assert torch.equal(found.model.head.weight, state["head.weight"].float())


@pytest.mark.parametrize("scale", ["head.weight_scale_inv", "head.scales"])
def test_codes_of_quantised_weights_are_no_values(scale: str, net: str) -> None:
    state = weights(Net())
    state["head.weight"] = state["head.weight"].to(torch.float8_e4m3fn)
    state["body.0.weight"] = torch.ones(81, 1, dtype=torch.uint8)  # packed: another shape
    state[scale] = torch.ones(1)
    found = built(net, SAVED["safetensors"](state))
    assert [remark for remark in found.remarks if "weights.safetensors" in remark] == [
        "weights.safetensors holds body.0.weight (uint8), head.weight (float8_e4m3fn), which is not decoded; "
        "the initial values are kept"
    ]
    assert parameters(found)["head.weight"].init == "kaiming_uniform_"


class Whole:
    """What unpickling must not make."""


def _broken(_: dict[str, torch.Tensor]) -> None:
    Path("bad.safetensors").write_bytes(b"\x00" * 100)


def _cut(state: dict[str, torch.Tensor]) -> None:
    torch.save(state, "bad.pt")
    Path("bad.pt").write_bytes(Path("bad.pt").read_bytes()[:-400])


def _objects(state: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": state, "settings": Whole()}, "bad.pt")


def _script(_: dict[str, torch.Tensor]) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(torch.nn.Linear(2, 2)).save("bad.pt")


def _text(_: dict[str, torch.Tensor]) -> None:
    Path("bad.bin").write_text("no tensors here")


def _list(state: dict[str, torch.Tensor]) -> None:
    torch.save(list(state.values()), "bad.pt")


def _without_shard(state: dict[str, torch.Tensor]) -> None:
    _shards(state)
    Path("model-1.safetensors").unlink()


def _two(state: dict[str, torch.Tensor]) -> None:
    Path("two").mkdir()
    for name in ("first", "second"):
        save_file(state, f"two/{name}.safetensors")


def _other_shape(state: dict[str, torch.Tensor]) -> None:
    save_file({**state, "head.weight": torch.zeros(9, 6), "head.bias": torch.zeros(9)}, "bad.safetensors")


def _other_model(_: dict[str, torch.Tensor]) -> None:
    save_file({"conv1.kernel": torch.zeros(3)}, "bad.safetensors")


@pytest.mark.parametrize(
    ("make", "path", "sentence"),
    [
        (_broken, "bad.safetensors", "bad.safetensors cannot be read as a checkpoint: SafetensorError"),
        (_cut, "bad.pt", "bad.pt cannot be read as a checkpoint"),
        (_objects, "bad.pt", "Whole) and unpickling those runs code; save the state_dict() alone"),
        (_script, "bad.pt", "bad.pt is a TorchScript archive, which holds code; save its state_dict() alone"),
        (_text, "bad.bin", "bad.bin cannot be read as a checkpoint"),
        (_list, "bad.pt", "bad.pt holds no tensors by name; save the state_dict() of the model"),
        (_without_shard, ".", "model.safetensors.index.json names model-1.safetensors, which is not there"),
        (_two, "two", "two holds several checkpoints: name one of first.safetensors, second.safetensors"),
        (_text, "nowhere", "there is no checkpoint nowhere"),
        (_other_shape, "bad.safetensors", "head.bias is [9] in the file and [4] in the model, and 1 more"),
        (_other_model, "bad.safetensors", "holds nothing of net.py:build: it names conv1.kernel, the model body.0"),
    ],
)
def test_what_is_wrong_is_one_sentence(make: Callable[..., None], path: str, sentence: str, net: str) -> None:
    make(weights(Net()))
    with pytest.raises(CheckpointTargetError) as caught:
        built(net, path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_derived_weights_are_made_of_the_loaded_ones(write: Write) -> None:
    write(
        "normed.py",
        """
        def build():
            return nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
        def example_inputs():
            return torch.randn(3, 5)
        """,
    )
    g, v = torch.rand(4, 1) * 50, torch.randn(4, 5)
    save_file({"weight_g": g, "weight_v": v, "bias": torch.zeros(4)}, "old.safetensors")
    found = built("normed.py:build", "old.safetensors")
    graph = trace(found.model, found.inputs, origins=found.origins).graph
    (derived,) = [op.parameter for op in graph if op.parameter is not None and op.name != "parameter"]
    assert derived.rms == pytest.approx(float((g * v / v.norm(dim=1, keepdim=True)).square().mean().sqrt()), rel=1e-5)
