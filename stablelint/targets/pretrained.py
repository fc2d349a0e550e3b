"""Models of transformers from a configuration, with random weights and no network.

``hf:LlamaConfig`` is the configuration with its defaults, ``hf:path/to/config.json`` (or the folder that holds it) a
released one; ``hf:llama`` (a model type) and ``hf:LlamaForCausalLM`` (an architecture) work too. The class is the
first of the configuration's ``architectures``; without any, the one that transformers maps the configuration to,
asked in the order of ``_TASKS``: what the family is pretrained as before what it is fine-tuned to.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from stablelint.errors import BuildTargetError, ImportTargetError, did_you_mean
from stablelint.targets.library import LibraryModel, missing
from stablelint.targets.loading import short
from stablelint.targets.spec import shown

_TASKS = (
    "MaskedLM",
    "CausalLM",
    "ImageTextToText",
    "SpeechSeq2Seq",
    "CTC",
    "ImageClassification",
    "ObjectDetection",
    "UniversalSegmentation",
    "InstanceSegmentation",
    "SemanticSegmentation",
    "VideoClassification",
    "AudioClassification",
    "DepthEstimation",
)


def transformers_model(name: str, options: Mapping[str, Any]) -> LibraryModel:
    """The model that ``name`` means, its configuration changed by ``options``."""
    # Before the import: transformers reads it once. A configuration needs nothing from outside.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import transformers
    except ImportError as error:
        raise missing("transformers", name, error) from None
    path = Path(name)
    if path.exists():
        config = _from_file(transformers, path / "config.json" if path.is_dir() else path, options)
        kind = None
    else:
        config, kind = _from_name(transformers, name, options)
    remark = None
    if kind is None:
        kind, remark = _architecture(transformers, config, name)
    from stablelint.targets.config_inputs import inputs_from_config

    return LibraryModel(
        make=lambda: kind(copy.deepcopy(config)),
        inputs=partial(inputs_from_config, config),
        virtual=True,
        remark=remark or f"hf:{name} is a {kind.__name__}",
        arguments=_fields(config),
    )


def _fields(config: Any) -> dict[str, Any]:
    """The fields of a configuration, also under the names that transformers uses for all of them."""
    aliases = getattr(config, "attribute_map", {})
    own: dict[str, Any] = config.to_dict()
    return own | {alias: getattr(config, name, None) for alias, name in aliases.items()}


def _from_file(transformers: Any, path: Path, options: Mapping[str, Any]) -> Any:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportTargetError(f"{shown(path)} cannot be read as a configuration: {short(error)}") from None
    if not isinstance(given, dict):
        raise ImportTargetError(f"{shown(path)} is not a configuration: it holds no JSON object")
    kind = _config_class(transformers, given, path)
    _check(kind, given, options)
    merged = _merged(given, options)
    try:
        return kind.from_dict(merged)
    except Exception as error:
        raise BuildTargetError(f"{kind.__name__} refuses {shown(path)}: {short(error)}") from error


def _config_class(transformers: Any, given: Mapping[str, Any], path: Path) -> Any:
    model_type = given.get("model_type")
    if model_type in transformers.CONFIG_MAPPING:
        return transformers.CONFIG_MAPPING[model_type]
    for architecture in given.get("architectures") or ():
        kind = getattr(getattr(transformers, architecture, None), "config_class", None)
        if kind is not None:
            return kind
    if not model_type:
        raise ImportTargetError(f"{shown(path)} names neither a model_type nor an architecture that transformers has")
    near = did_you_mean(str(model_type), list(transformers.CONFIG_MAPPING.keys()))
    raise ImportTargetError(f"transformers {transformers.__version__} has no model type {model_type!r}{near}")


def _from_name(transformers: Any, name: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration, and the architecture when ``name`` is one."""
    mapping = transformers.CONFIG_MAPPING  # its get() does not find what it holds
    found = mapping[name] if name in mapping else None  # noqa: SIM401
    if found is None and name.isidentifier():
        found = getattr(transformers, name, None)
    architecture = None
    if inspect.isclass(found) and not issubclass(found, transformers.PretrainedConfig):
        architecture, found = found, getattr(found, "config_class", None)
    if not inspect.isclass(found) or not issubclass(found, transformers.PretrainedConfig):
        known = [each for each in dir(transformers) if each.endswith("Config")] + list(transformers.CONFIG_MAPPING)
        raise ImportTargetError(f"transformers has no configuration {name!r}{did_you_mean(name, known)}")
    _check(found, {}, options)
    try:
        return found(**_merged({}, options)), architecture
    except Exception as error:
        raise BuildTargetError(f"{found.__name__} cannot be made: {short(error)}") from error


def _architecture(transformers: Any, config: Any, name: str) -> tuple[Any, str | None]:
    named = list(getattr(config, "architectures", None) or ())
    for architecture in named:
        if inspect.isclass(getattr(transformers, architecture, None)):
            return getattr(transformers, architecture), None
    for auto in _auto_classes(transformers, config):
        mapping = auto._model_mapping
        if type(config) in mapping:
            kind = mapping[type(config)]
            kind = kind[0] if isinstance(kind, (tuple, list)) else kind
            remark = f"transformers has no {named[0]}; hf:{name} is checked as a {kind.__name__}" if named else None
            return kind, remark
    raise BuildTargetError(f"hf:{name}: transformers maps {type(config).__name__} to no model class")


def _auto_classes(transformers: Any, config: Any) -> Iterator[Any]:
    tasks: tuple[str, ...] = _TASKS
    if getattr(config, "is_encoder_decoder", False):
        tasks = ("Seq2SeqLM", "SpeechSeq2Seq", *_TASKS)
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        tasks = ("ImageTextToText",)  # else both towers: CLIP is no image classifier
    for task in tasks:
        auto = getattr(transformers, f"AutoModelFor{task}", None)
        if auto is not None:
            yield auto
    yield transformers.AutoModel


def _check(kind: Any, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse an option that the configuration does not have; a dotted one belongs to a configuration inside it."""
    if not options:
        return
    try:
        default = kind().to_dict()
    except Exception:  # a configuration that is made of others
        default = {}
    known = {*default, *given, *getattr(kind, "attribute_map", {}), *inspect.signature(kind.__init__).parameters}
    known -= {"self", "args", "kwargs", "model_type", "architectures", "transformers_version"}
    for key in options:
        first, _, rest = key.partition(".")
        if first not in known:
            raise BuildTargetError(f"{kind.__name__} has no field {first}{did_you_mean(first, known)}")
        inner = {**(default.get(first) or {}), **(given.get(first) or {})} if rest else {}
        if inner and rest not in inner:
            raise BuildTargetError(f"{first} of {kind.__name__} has no field {rest}{did_you_mean(rest, inner)}")


def _merged(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(given))
    for key, value in options.items():
        *outer, last = key.split(".")
        inside = merged
        for name in outer:
            inside = inside.setdefault(name, {})
        inside[last] = value
    return merged
