"""A call as a user would write it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from stablelint.targets.arguments.objects import GuessedSettings
from stablelint.targets.callplan import Call

_LONGEST = 400


def shown_call(call: Call, fields: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """``UNet(n_channels=3, n_classes=1)``; ``fields`` are those of the settings objects among its arguments."""
    if call.function is GuessedSettings:
        return "settings"
    parts = [_shown(each) for each in call.args]
    for name, value in call.kwargs.items():
        if isinstance(value, Call) and value.function is GuessedSettings and fields and fields.get(name):
            inner = ", ".join(f"{key}={_shown(each)}" for key, each in fields[name].items())
            parts.append(f"{name}=SimpleNamespace({inner})")
        else:
            parts.append(f"{name}={_shown(value)}")
    text = f"{_name(call.function)}({', '.join(parts)})"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 5] + " ...)"


def _shown(value: Any) -> str:
    if isinstance(value, Call):
        return shown_call(value)
    if isinstance(value, list | tuple):
        inner = ", ".join(_shown(each) for each in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(each)}" for key, each in value.items()) + "}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return _name(value)
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"<{type(value).__name__}>"


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    name = str(getattr(function, "__qualname__", None) or getattr(function, "__name__", "function"))
    if name.startswith("_VariableFunctions"):
        return f"torch.{name.rpartition('.')[2]}"
    if module.startswith("torch.nn.modules"):
        return f"nn.{name}"
    return f"F.{name}" if module == "torch.nn.functional" else name
