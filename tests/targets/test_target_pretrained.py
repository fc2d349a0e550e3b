"""hf: specs: a configuration becomes a model without a weight being allocated and without network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stablelint.errors import ImportTargetError, TargetError
from stablelint.targets.build import Built, candidates
from stablelint.targets.spec import expand
from stablelint.trace import trace

pytest.importorskip("transformers")

Write = Callable[..., str]
TINY = "num_hidden_layers=1&hidden_size=512&num_attention_heads=4"


def built(spec: str, *, real: bool = False) -> Built:
    (request,) = expand([spec])
    (candidate,) = candidates(request, real=real)
    return candidate.build()


@pytest.mark.parametrize(
    ("spec", "architecture", "inputs"),
    [
        (f"hf:LlamaConfig?{TINY}&num_key_value_heads=2", "LlamaForCausalLM", {"input_ids": (2, 32)}),
        (f"hf:BertConfig?{TINY}", "BertForMaskedLM", {"input_ids": (2, 32)}),
        ("hf:gpt2?n_layer=1", "GPT2LMHeadModel", {"input_ids": (2, 32)}),
        (f"hf:BertForSequenceClassification?{TINY}", "BertForSequenceClassification", {"input_ids": (2, 32)}),
        (
            "hf:T5Config?num_layers=1",
            "T5ForConditionalGeneration",
            {"input_ids": (2, 32), "decoder_input_ids": (2, 16)},
        ),
        (f"hf:ViTConfig?{TINY}&image_size=64", "ViTForImageClassification", {"pixel_values": (2, 3, 64, 64)}),
        (f"hf:Wav2Vec2Config?{TINY}", "Wav2Vec2ForCTC", {"input_values": (2, 16000)}),
        ("hf:XLNetConfig?n_layer=1&d_model=64&n_head=2&d_inner=64", "XLNetLMHeadModel", {"input_ids": (2, 32)}),
        (
            "hf:ReformerConfig?axial_pos_shape=[8,16]&max_position_embeddings=128",
            "ReformerForMaskedLM",
            {"input_ids": (2, 128)},
        ),
        (
            "hf:CLIPConfig?text_config.num_hidden_layers=1&vision_config.num_hidden_layers=1",
            "CLIPModel",
            {"input_ids": (2, 32), "pixel_values": (2, 3, 224, 224)},
        ),
    ],
)
def test_a_configuration_gives_a_model_and_its_inputs(spec: str, architecture: str, inputs: dict) -> None:
    found = built(spec)
    assert type(found.model).__name__ == architecture
    assert {name: tuple(value.shape) for name, value in found.inputs.kwargs.items() if name != "use_cache"} == inputs
    assert any(each.is_meta for each in found.model.parameters())
    graph = trace(found.model, found.inputs, origins=found.origins).graph
    assert all(each.std == each.std for each in graph.parameters if not each.buffer)


def test_a_file_says_its_architecture_and_takes_overrides(write: Write, user_folder: Path) -> None:
    config = {"model_type": "bert", "architectures": ["BertForTokenClassification"], "num_hidden_layers": 1}
    (user_folder / "mine").mkdir()
    (user_folder / "mine" / "config.json").write_text(json.dumps(config))
    assert type(built("hf:mine/config.json").model).__name__ == "BertForTokenClassification"
    found = built("hf:mine?num_hidden_layers=2")
    assert found.name == "hf:mine?num_hidden_layers=2"
    assert len(found.model.bert.encoder.layer) == 2


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("hf:LlamaConfig?num_hidden_layer=2", 'LlamaConfig has no field num_hidden_layer; did you mean "num_hidden'),
        ("hf:CLIPConfig?text_config.layers=2", "text_config of CLIPConfig has no field layers"),
        ("hf:LlamConfig", "transformers has no configuration 'LlamConfig'; did you mean \"LlamaConfig\""),
        ("hf:unknown.json", "has no model type 'bret'; did you mean \"bert\""),
        ("hf:list.json", "holds no JSON object"),
        ("hf:broken.json", "cannot be read as a configuration"),
    ],
)
def test_what_is_wrong_is_one_sentence(spec: str, sentence: str, user_folder: Path) -> None:
    (user_folder / "unknown.json").write_text('{"model_type": "bret"}')
    (user_folder / "list.json").write_text("[]")
    (user_folder / "broken.json").write_text("{")
    with pytest.raises(TargetError) as caught:
        built(spec)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_are_allocated_when_the_model_is_to_run() -> None:
    found = built(f"hf:BertConfig?{TINY}", real=True)
    assert not any(each.is_meta for each in found.model.parameters())
    virtual = built(f"hf:BertConfig?{TINY}")
    model, inputs = virtual.rebuild(1)
    assert not any(each.is_meta for each in model.parameters())
    model(*inputs.args, **inputs.kwargs)


def test_transformers_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportTargetError, match="needs transformers, which is not installed: pip install transformers"):
        built("hf:BertConfig")
