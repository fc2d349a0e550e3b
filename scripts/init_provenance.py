"""Compare what stablelint knows of initial weights that it never allocated with those of really built models.

    python scripts/init_provenance.py [NAME ...]

For every parameter the mean and the standard deviation of both builds are compared: 5% (of the standard deviation, or
of the mean where that is larger) and four standard errors of the samples are allowed. Prints one line per model and
every parameter that differs; exits with 1 when one does.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import time
import warnings
from collections.abc import Callable

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from torch import nn

from stablelint.trace import observe_build
from stablelint.trace.provenance import SMALL, Provenance

_ALLOWED = 0.05
_ERRORS = 4.0


def _torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return model

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False)
        return model

    return build


def _hf(config: str, architecture: str, **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        model: nn.Module = getattr(transformers, architecture)(getattr(transformers, config)(**options))
        return model

    return build


_DECODER = {
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "intermediate_size": 1376,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4000,
}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "torchvision:resnet50": _torchvision("resnet50"),
    "torchvision:vit_b_16": _torchvision("vit_b_16"),
    "torchvision:swin_t": _torchvision("swin_t"),
    "torchvision:convnext_tiny": _torchvision("convnext_tiny"),
    "torchvision:densenet121": _torchvision("densenet121"),
    "torchvision:maxvit_t": _torchvision("maxvit_t"),
    "torchvision:inception_v3": _torchvision("inception_v3", init_weights=True),
    "torchvision:r3d_18": _torchvision("r3d_18"),
    "torchvision:raft_small": _torchvision("raft_small"),
    "torchvision:fcn_resnet50": _torchvision("fcn_resnet50", weights_backbone=None),
    "torchvision:ssdlite320_mobilenet_v3_large": _torchvision("ssdlite320_mobilenet_v3_large", weights_backbone=None),
    "timm:vit_tiny_patch16_224": _timm("vit_tiny_patch16_224"),
    "timm:beit_base_patch16_224": _timm("beit_base_patch16_224"),
    "timm:resnet26d": _timm("resnet26d"),
    "timm:tf_efficientnetv2_b0": _timm("tf_efficientnetv2_b0"),
    "timm:convnextv2_atto": _timm("convnextv2_atto"),
    "timm:volo_d1_224": _timm("volo_d1_224"),
    "timm:gmlp_s16_224": _timm("gmlp_s16_224"),
    "timm:nfnet_f0": _timm("nfnet_f0"),
    "hf:gpt2": _hf("GPT2Config", "GPT2LMHeadModel", n_layer=4),
    "hf:bert": _hf("BertConfig", "BertForMaskedLM", num_hidden_layers=3),
    "hf:llama": _hf("LlamaConfig", "LlamaForCausalLM", **_DECODER),
    "hf:mixtral": _hf("MixtralConfig", "MixtralForCausalLM", num_local_experts=4, **_DECODER),
    "hf:t5": _hf("T5Config", "T5ForConditionalGeneration", num_layers=3),
    "hf:whisper": _hf("WhisperConfig", "WhisperForConditionalGeneration", encoder_layers=2, decoder_layers=2),
    "hf:wav2vec2": _hf("Wav2Vec2Config", "Wav2Vec2ForCTC", num_hidden_layers=2),
    "hf:mamba": _hf("MambaConfig", "MambaForCausalLM", num_hidden_layers=2, hidden_size=256, vocab_size=2000),
    "hf:clip": _hf("CLIPConfig", "CLIPModel"),
    "torch:transformer": lambda: nn.Transformer(512, 8, 2, 2),
    "torch:lstm_orthogonal": lambda: _orthogonal(nn.LSTM(256, 512, 2)),
    "torch:parametrized": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(512, 512)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(512, 512)),
        nn.utils.parametrizations.weight_norm(nn.Conv1d(256, 256, 5), dim=2),
    ),
}


def _orthogonal(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if "weight_hh" in name:
            nn.init.orthogonal_(parameter)
    return model


Moments = tuple[float, float, int]  # mean, standard deviation, elements that they were computed from


def _moments(parameter: torch.Tensor, provenance: Provenance) -> Moments:
    known = provenance.moments(parameter)
    if known is not None:
        return known.mean, known.std, parameter.numel()
    values = parameter.detach().double()
    return float(values.mean()), float(values.std(correction=0)), parameter.numel()


def compare(build: Callable[[], nn.Module]) -> tuple[int, int, int, list[str], float, float]:
    """Parameters, those never allocated, parameters within 5%, what differs, and the seconds of both builds."""
    started = time.perf_counter()
    with observe_build(allocate=False) as origins:
        model = build()
    without = time.perf_counter() - started
    known = {name: _moments(each, origins.provenance) for name, each in model.named_parameters()}
    virtual = sum(each.is_meta for each in model.parameters())
    del model
    gc.collect()
    started = time.perf_counter()
    torch.manual_seed(0)
    model = build()
    real = time.perf_counter() - started
    within, different = 0, []
    for name, parameter in model.named_parameters():
        mean, std, count = _moments(parameter, Provenance())
        other_mean, other_std, other_count = known[name]
        # Allocated ones are a sample in both builds; a distribution that is known has no error of its own.
        per_element = 1 / count + (1 / other_count if other_count <= SMALL else 0.0)
        error = _ERRORS * max(std, other_std)
        scale = max(abs(mean), std)
        within += abs(std - other_std) <= _ALLOWED * std
        agrees = abs(std - other_std) <= _ALLOWED * std + error * math.sqrt(0.5 * per_element) + 1e-9
        agrees &= abs(mean - other_mean) <= _ALLOWED * scale + error * math.sqrt(per_element) + 1e-9
        if not agrees:
            shape = "x".join(map(str, parameter.shape))
            different.append(f"{name} [{shape}]: {other_mean:.4g} +- {other_std:.4g}, really {mean:.4g} +- {std:.4g}")
    return len(known), virtual, within, different, without, real


def main(names: list[str]) -> int:
    """Print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    good = total = agreeing = 0
    print(f"{'model':44} params unallocated  agree  within 5%  s without  s real")
    for name in names or list(MODELS):
        count, virtual, within, different, without, real = compare(MODELS[name])
        total, agreeing, good = total + count, agreeing + count - len(different), good + (not different)
        print(f"{name:44} {count:6} {virtual:11} {1 - len(different) / count:6.1%} {within / count:10.1%}"
              f" {without:10.2f} {real:7.2f}", flush=True)  # fmt: skip
        for line in different[:8]:
            print(f"    {line}")
    count = len(names or MODELS)
    print(
        f"{good} of {count} models agree in all parameters; {agreeing} of {total} parameters ({agreeing / total:.2%})"
    )
    return int(good < count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
