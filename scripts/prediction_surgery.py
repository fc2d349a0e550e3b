"""Library models that are broken after they were built: weights scaled, norms taken out, activations exchanged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from prediction_cases import Case, Make, built_from
from torch import Tensor, nn


def scaled(model: nn.Module, factor: float, kinds: Sequence[type[nn.Module]] = ()) -> nn.Module:
    """``model`` with all matrices and kernels of its linear, convolutional and recurrent layers times ``factor``."""
    weighted = tuple(kinds) or (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase, nn.RNNCellBase)
    with torch.no_grad():
        for module in model.modules():
            projects = isinstance(module, weighted) or type(module).__name__ == "Conv1D"
            for parameter in module.parameters(recurse=False) if projects else ():
                if parameter.dim() > 1:
                    parameter.mul_(factor)
    return model


def replaced(model: nn.Module, chosen: Callable[[nn.Module], bool], make: Callable[[], nn.Module]) -> nn.Module:
    """``model`` with every module that ``chosen`` names exchanged."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if chosen(child):
                setattr(module, name, make())
    return model


def without_norms(model: nn.Module) -> nn.Module:
    """``model`` with Identity in the place of every norm layer."""
    return replaced(model, lambda module: re.fullmatch(r".*Norm(\dd)?", type(module).__name__) is not None, nn.Identity)


def activated(model: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """``model`` with other activation modules."""
    names = {"ReLU", "ReLU6", "GELU", "SiLU", "Hardswish", "GELUActivation", "NewGELUActivation", "SiLUActivation"}
    return replaced(model, lambda module: type(module).__name__ in names, make)


Edit = Callable[[nn.Module], nn.Module]
EDITS: dict[str, Edit] = {
    "": lambda model: model,
    "_x0.25": lambda model: scaled(model, 0.25),
    "_x4": lambda model: scaled(model, 4),
    "_x32": lambda model: scaled(model, 32),
    "_nonorm": without_norms,
    "_nonorm_x0.5": lambda model: scaled(without_norms(model), 0.5),
    "_nonorm_x2": lambda model: scaled(without_norms(model), 2),
    "_nonorm_x4": lambda model: scaled(without_norms(model), 4),
    "_sigmoid": lambda model: activated(model, nn.Sigmoid),
    "_nonorm_sigmoid": lambda model: activated(without_norms(model), nn.Sigmoid),
}
_VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 96, "num_heads": 3, "num_classes": 10}
_BERT = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 12}
_TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", _BERT),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 64, "n_layer": 12, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}),
    "llama": ("LlamaForCausalLM", _BERT),
    "t5": ("T5EncoderModel", {"d_model": 64, "d_kv": 16, "d_ff": 256, "num_layers": 8, "num_heads": 4}),
}


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None)


def _timm(name: str, **options: Any) -> nn.Module:
    from timm import create_model

    return create_model(name, pretrained=False, **options)


def _transformer(name: str) -> nn.Module:
    import transformers

    kind, options = _TRANSFORMERS[name]
    architecture = getattr(transformers, kind)
    return architecture(architecture.config_class(vocab_size=200, **options))


def _images(size: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(2, 3, size, size)


def libraries() -> Iterator[Case]:
    """Models of torchvision, timm and transformers, built from a configuration and broken."""

    def case(name: str, edit: str, make: Make, inputs: Callable[[], Tensor]) -> Case:
        return Case(name + edit, "surgery", built_from(lambda: EDITS[edit](make()), inputs))

    for name, edits in (
        ("resnet18", ("", "_nonorm", "_nonorm_x2", "_nonorm_x0.5", "_sigmoid", "_nonorm_sigmoid")),
        ("mobilenet_v2", ("_nonorm", "_nonorm_x2", "_nonorm_x4", "_sigmoid")),
        ("shufflenet_v2_x0_5", ("_nonorm", "_nonorm_x2")),
    ):
        for edit in edits:
            yield case(name, edit, lambda n=name: _torchvision(n), _images(64))
    for depth, edits in ((12, ("", "_x4", "_nonorm_x2", "_nonorm_x4")), (48, ("",))):
        for edit in edits:
            make = lambda d=depth: _timm("vit_tiny_patch16_224", depth=d, **_VIT)  # noqa: E731
            yield case(f"vit{depth}", edit, make, _images(32))
    for edit in ("_nonorm", "_nonorm_x2"):
        yield case("convnext_atto", edit, lambda: _timm("convnext_atto", num_classes=10), _images(64))
    for name in _TRANSFORMERS:
        for edit in ("_x4", "_x32", "_nonorm"):
            yield case(name, edit, lambda n=name: _transformer(n), lambda: torch.randint(0, 200, (4, 24)))
