"""Released architectures train, so anything above a note on one of them is a false alarm.

The sample runs always; `pytest -m zoo` runs the long list.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from stablelint.api import check_model
from stablelint.config import Config
from stablelint.finding import Level
from stablelint.inputs import Inputs

Make = Callable[[], tuple[nn.Module, Inputs]]


def image(library: str, name: str, size: int = 64, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        given = Inputs(torch.randn(4, 3, size, size))
        if library == "timm":
            import timm

            return timm.create_model(name, pretrained=False, **options), given
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options), given

    return make


def text(config: str, model: str, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import transformers

        ids = torch.randint(3, 100, (4, 16))
        built = getattr(transformers, model)(getattr(transformers, config)(vocab_size=100, **options))
        if built.config.is_encoder_decoder:
            return built, Inputs(input_ids=ids, decoder_input_ids=ids)
        return built, Inputs(input_ids=ids)

    return make


LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
SAMPLE: dict[str, Make] = {
    "resnet18": image("torchvision", "resnet18"),
    "mobilenet_v3_small": image("torchvision", "mobilenet_v3_small"),
    "convnext_atto": image("timm", "convnext_atto"),
    "deit_tiny": image("timm", "deit_tiny_patch16_224", 224, depth=4),
    "bert": text("BertConfig", "BertModel", **BERT),
    "llama": text("LlamaConfig", "LlamaForCausalLM", **LLAMA),
    "t5": text("T5Config", "T5Model", d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4),
    # writes into views of what it has computed: a hook on the tensors crashes torch
    "longformer": text("LongformerConfig", "LongformerModel", attention_window=[8, 8], pad_token_id=0, **BERT),
}
LONG: dict[str, Make] = {
    **{
        name: image("torchvision", name, size)
        for name, size in [("densenet121", 64), ("vgg11_bn", 64), ("swin_t", 96), ("efficientnet_b0", 96)]
    },
    **{
        name: image("timm", name, size)
        for name, size in [
            ("resnet26d", 96),
            ("nfnet_f0", 128),
            ("mixer_s16_224", 224),
            ("cait_xxs24_224", 224),
            ("convmixer_768_32", 96),
            ("poolformer_s12", 96),
            ("regnetz_b16", 96),
            ("volo_d1_224", 224),
        ]
    },
    "gpt2": text("GPT2Config", "GPT2LMHeadModel", n_embd=64, n_layer=4, n_head=4),
    "qwen3": text("Qwen3Config", "Qwen3ForCausalLM", head_dim=16, **LLAMA),
    "roberta": text("RobertaConfig", "RobertaModel", **BERT),
    "opt": text("OPTConfig", "OPTForCausalLM", hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4),
}


def assert_silent(make: Make, *, probe: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        model, inputs = make()
        report = check_model(model, inputs, config=Config(seeds=1), probe=probe)
    assert [finding for finding in report.findings if finding.level > Level.NOTE] == []
    assert report.signals is not None


both = pytest.mark.parametrize("probe", [False, True], ids=["predicted", "measured"])


@both
@pytest.mark.parametrize("make", SAMPLE.values(), ids=SAMPLE.keys())
def test_a_released_architecture_is_left_alone(make: Make, probe: bool) -> None:
    assert_silent(make, probe=probe)


@both
@pytest.mark.zoo
@pytest.mark.parametrize("make", LONG.values(), ids=LONG.keys())
def test_more_released_architectures_are_left_alone(make: Make, probe: bool) -> None:
    assert_silent(make, probe=probe)
