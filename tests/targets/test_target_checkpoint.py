"""Weights of a checkpoint in the place of the initial ones: values where there is memory, else statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stablelint.errors import CheckpointTargetError
from stablelint.graph import Parameter
from stablelint.probe import measure
from stablelint.targets.build import Built, candidates
from stablelint.targets.checkpoint import files, fill, pieces, values
from stablelint.targets.spec import expand
from stablelint.trace import observe_build, trace
from stablelint.trace.weights import statistics

Write = Callable[..., str]

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
def build():
    return Net()
def example_inputs():
    return torch.randn(4, 3, 8, 8)
"""


def built(spec: str, path: str | Path, *, real: bool = False) -> Built:
    (request,) = expand([spec])
    (candidate,) = candidates(request, real=real, checkpoint=Path(path))
    return candidate.build()


def parameters(found: Built) -> dict[str, Parameter]:
    return {each.name: each for each in trace(found.model, found.inputs, origins=found.origins).graph.parameters}


def weights(model: nn.Module, seed: int = 7) -> dict[str, torch.Tensor]:
    """Values that no initialisation draws, for each tensor of the state dict."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=draw).mul(3).add(1).to(tensor.dtype).abs()
        for name, tensor in model.state_dict().items()
    }


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)


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
        "weights.safetensors holds body.0.weight (uint8), head.weight (float8_e4m3fn) in a quantised form; "
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


def test_a_model_without_memory_gets_statistics(user_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tiny = {"num_hidden_layers": 1, "hidden_size": 264, "num_attention_heads": 4, "vocab_size": 300}
    config = transformers.LlamaConfig(**tiny, intermediate_size=300, tie_word_embeddings=True)
    state = weights(transformers.LlamaForCausalLM(config))
    del state["lm_head.weight"]
    # the body alone, as AutoModel saves it
    save_file({name.removeprefix("model."): value for name, value in state.items()}, "model.safetensors")
    query = "&".join(f"{key}={value}" for key, value in tiny.items())
    found = built(
        f"hf:LlamaConfig?{query}&intermediate_size=300&tie_word_embeddings=True", user_folder / "model.safetensors"
    )
    assert found.model.model.embed_tokens.weight.is_meta
    assert not any("safetensors" in remark for remark in found.remarks)
    described = parameters(found)
    assert described.keys() >= state.keys()
    for name, value in state.items():
        each = described[name]
        assert (each.init, each.init_site) == ("checkpoint", None)
        *moments, similarity = statistics(value)
        assert (each.mean, each.std, each.rms) == pytest.approx(tuple(moments), rel=1e-5)
        assert each.row_similarity == similarity


class Reads:
    """What is read between two mappings of a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.mappings = 0
        original, opened = files._File.read, files._Safetensors._handle

        def read(file: Any, name: str, piece: Any) -> torch.Tensor:
            found = original(file, name, piece)
            self.sizes.append(found.numel())
            return found

        def handle(file: Any) -> Any:
            self.mappings += file._opened is None
            return opened(file)

        monkeypatch.setattr(files._File, "read", read)
        monkeypatch.setattr(files._Safetensors, "_handle", handle)


@pytest.mark.parametrize("meta", [True, False])
def test_a_large_tensor_is_never_in_memory(meta: bool, monkeypatch: pytest.MonkeyPatch, user_folder: Path) -> None:
    """Six million elements of which a hundred thousand may be read at once, and a megabyte of one mapping."""
    table = torch.randn(3000, 2000, generator=torch.Generator().manual_seed(3)) * torch.linspace(1, 2, 3000)[:, None]
    save_file({"weight": table.half()}, "large.safetensors")
    with observe_build(allocate=not meta) as origins:
        model = nn.Embedding(3000, 2000)
    monkeypatch.setattr(files, "_MAPPED", 1 << 20)
    monkeypatch.setattr(values, "WHOLE", 100_000)
    reads = Reads(monkeypatch)
    fill(model, origins, user_folder / "large.safetensors", "it")
    assert max(reads.sizes) <= 100_000
    if meta:
        assert sum(reads.sizes) <= pieces.SAMPLE
        assert len(reads.sizes) >= 256
        found = origins.provenance.moments(model.weight)
        assert found is not None
        assert (found.std, found.rms) == pytest.approx(statistics(table)[1:3], rel=0.02)
        assert found.row_similarity == pytest.approx(0.0, abs=1e-3)
    else:
        assert torch.equal(model.weight, table.half().float())
    assert reads.mappings > 4
