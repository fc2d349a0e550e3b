"""Models of torchvision and timm by name, with random weights: nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from stablelint.errors import ImportTargetError, did_you_mean


def library_factory(library: str, name: str) -> Callable[[], nn.Module]:
    """A factory of the named model; raises ImportTargetError for a missing library or an unknown name."""
    return _torchvision(name) if library == "torchvision" else _timm(name)


def _torchvision(name: str) -> Callable[[], nn.Module]:
    try:
        from torchvision import models
    except ImportError as error:
        raise _missing("torchvision", name, error) from None
    known = models.list_models()
    if name not in known:
        raise ImportTargetError(f"torchvision has no model {name!r}{did_you_mean(name, known)}")
    builder = models.get_model_builder(name)
    options = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    return lambda: models.get_model(name, **options)


def _timm(name: str) -> Callable[[], nn.Module]:
    try:
        import timm
    except ImportError as error:
        raise _missing("timm", name, error) from None
    if not timm.is_model(name):
        raise ImportTargetError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    return lambda: timm.create_model(name, pretrained=False)


def _missing(library: str, name: str, error: ImportError) -> ImportTargetError:
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return ImportTargetError(f"{library}:{name} needs {library}, which is not installed: pip install {library}")
    return ImportTargetError(f"{library}:{name} cannot be built: importing {library} fails with {error}")
