"""Models of torchvision, timm and transformers by name, with random weights: nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from stablelint.errors import BuildTargetError, ImportTargetError, did_you_mean
from stablelint.inputs import Inputs


@dataclass(frozen=True)
class LibraryModel:
    """How to build a model of a library, and the inputs that its metadata tells (None: they are inferred).

    ``inputs(model)`` gives makers of inputs, best first, with what they are; ``sure`` says that the first needs no
    trial. ``virtual`` models are built without allocating their weights whenever they need not be run. ``arguments``
    are what can be changed by the spec (after the ``?``) with its present values.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[nn.Module], list[tuple[Callable[[int], Inputs], str]]] | None = None
    virtual: bool = False
    remark: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def library_model(library: str, name: str, options: Mapping[str, Any]) -> LibraryModel:
    """The named model, built with ``options``; raises one sentence for a missing library, name or option."""
    if library == "hf":
        from stablelint.targets.pretrained import transformers_model

        return transformers_model(name, options)
    return _torchvision(name, options) if library == "torchvision" else _timm(name, options)


def _torchvision(name: str, options: Mapping[str, Any]) -> LibraryModel:
    try:
        from torchvision import models
    except ImportError as error:
        raise missing("torchvision", name, error) from None
    known = models.list_models()
    if name not in known:
        raise ImportTargetError(f"torchvision has no model {name!r}{did_you_mean(name, known)}")
    builder = models.get_model_builder(name)
    parameters = inspect.signature(builder).parameters
    _check_options(f"torchvision's {name}", options, list(parameters), builder)
    given: dict[str, Any] = {"weights": None}
    if "weights_backbone" in parameters:
        given["weights_backbone"] = None
    if options.get("weights") or options.get("weights_backbone"):
        raise BuildTargetError(f"torchvision:{name}: stablelint checks random weights and downloads none")
    inputs = partial(_video_inputs, name) if builder.__module__.startswith("torchvision.models.video") else None
    defaults = {key: each.default for key, each in parameters.items() if isinstance(each.default, int)}
    arguments = defaults | dict(options)
    return LibraryModel(lambda: models.get_model(name, **given | dict(options)), inputs, arguments=arguments)


def _timm(name: str, options: Mapping[str, Any]) -> LibraryModel:
    try:
        import timm
    except ImportError as error:
        raise missing("timm", name, error) from None
    if not timm.is_model(name):
        raise ImportTargetError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    if options.get("pretrained"):
        raise BuildTargetError(f"timm:{name}: stablelint checks random weights and downloads none")
    given = {"pretrained": False} | dict(options)
    return LibraryModel(lambda: timm.create_model(name, **given), arguments=options)


def _video_inputs(name: str, _model: nn.Module) -> list[tuple[Callable[[int], Inputs], str]]:
    """Clips of the smallest size that the model's released weights state."""
    from torchvision import models

    meta: Mapping[str, Any] = {}
    crop = 112
    for weights in models.get_model_weights(name):
        meta = weights.meta
        crop = max(getattr(weights.transforms, "keywords", {}).get("crop_size", (112, 112)))
        break
    small = max((*meta.get("min_size", (1, 1)), 112))
    shapes = [(2, 3, max(8, meta.get("min_temporal_size", 1)), small, small), (2, 3, 16, crop, crop)]
    return [(partial(_clip, shape), f"x = float{list(shape)}") for shape in dict.fromkeys(shapes)]


def _clip(shape: tuple[int, ...], seed: int) -> Inputs:
    return Inputs(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def _check_options(owner: str, options: Mapping[str, Any], known: list[str], function: Callable[..., Any]) -> None:
    """Refuse an option that nothing takes; a function with ``**kwargs`` judges for itself."""
    variadic = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(function).parameters.values())
    for key in options:
        if key not in known and not variadic:
            raise BuildTargetError(f"{owner} has no argument {key}{did_you_mean(key, known)}")


def missing(library: str, name: str, error: ImportError) -> ImportTargetError:
    """The sentence for a library that cannot be imported."""
    short = "hf" if library == "transformers" else library
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return ImportTargetError(f"{short}:{name} needs {library}, which is not installed: pip install {library}")
    return ImportTargetError(f"{short}:{name} cannot be built: importing {library} fails with {error}")
