"""Released architectures with what a measurement has to undo: dropout of paths, caches, masks, checkpointing."""

from __future__ import annotations

from typing import Any

import torch
from models_to_restore import Make, row
from torch import nn

from stablelint.inputs import Inputs


def vision(name: str, size: int = 64, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options), row(2, 3, size, size)

    return make


def detector() -> tuple[nn.Module, Inputs]:
    import torchvision

    model = torchvision.models.get_model(
        "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None, num_classes=5
    )
    model.transform.min_size, model.transform.max_size = (96,), 96
    boxes = torch.tensor([[10.0, 10.0, 50.0, 60.0]])
    targets = [{"boxes": boxes.clone(), "labels": torch.tensor([1])} for _ in range(2)]
    return model, Inputs([torch.rand(3, 96, 96) for _ in range(2)], targets)


def timm_model(name: str, size: int, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import timm

        return timm.create_model(name, pretrained=False, **options), row(2, 3, size, size)

    return make


def text(config: str, model: str, *, labels: bool = False, checkpointed: bool = False, **options: Any) -> Make:
    def make() -> tuple[nn.Module, Inputs]:
        import transformers

        built = getattr(transformers, model)(getattr(transformers, config)(vocab_size=100, **options))
        if checkpointed:
            built.gradient_checkpointing_enable()
        ids = torch.randint(3, 100, (2, 16))
        return built, Inputs(input_ids=ids, **({"labels": ids.clone()} if labels else {}))

    return make


def speech() -> tuple[nn.Module, Inputs]:
    """Weight norm by parametrization, and spans of time that NumPy's global generator masks."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    convolutions = {"conv_dim": (32,) * 3, "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2)}
    config = transformers.Wav2Vec2Config(**sizes, **convolutions, num_conv_pos_embeddings=16, mask_time_prob=0.3)
    model = transformers.Wav2Vec2Model(config)
    model.freeze_feature_encoder()
    return model, row(2, 1600)


BODY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
RELEASED: dict[str, Make] = {
    "resnet18": vision("resnet18"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "densenet121 with checkpointing": vision("densenet121", memory_efficient=True),
    "efficientnet_b0": vision("efficientnet_b0"),
    "swin_t": vision("swin_t", 96),
    "faster r-cnn": detector,
    "convnext_atto": timm_model("convnext_atto", 64, drop_path_rate=0.2),
    "deit_tiny": timm_model("deit_tiny_patch16_224", 224, depth=2, drop_path_rate=0.2),
    "mixer_s16_224": timm_model("mixer_s16_224", 224),
    "regnetz_b16": timm_model("regnetz_b16", 96),
    "bert": text("BertConfig", "BertModel", **BODY),
    "gpt2 with labels": text("GPT2Config", "GPT2LMHeadModel", labels=True, n_embd=64, n_layer=2, n_head=4),
    "llama with labels and cache": text("LlamaConfig", "LlamaForCausalLM", labels=True, **BODY),
    "qwen3 with checkpointing": text(
        "Qwen3Config", "Qwen3ForCausalLM", labels=True, checkpointed=True, head_dim=16, num_key_value_heads=2, **BODY
    ),
    "t5 with labels": text("T5Config", "T5ForConditionalGeneration", labels=True, decoder_start_token_id=0, **T5),
    "wav2vec2": speech,
}
