"""Base classes in place of those of packages that are missing: what they offer while a model is built does no harm."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stablelint.targets.imports.folders import is_users
from stablelint.targets.imports.placeholder import Reason, touch

# Names that end with "Model" and hold no network.
_PLAIN_PACKAGES = {"pydantic", "sqlmodel", "sqlalchemy", "django", "peewee", "gym", "gymnasium", "ray"}
_PLAIN_ENDS = ("DataModule", "Config", "Dataset", "Env", "Trainer", "Callback")
_MODULE_ENDS = ("Module", "Model", "Network", "Net", "ModelMixin", "Layer", "Backbone")

_defining_module = False


@contextmanager
def defining(*, module: bool) -> Iterator[None]:
    """While a class is defined: whether its own body says that it is a network."""
    global _defining_module
    before, _defining_module = _defining_module, module
    try:
        yield
    finally:
        _defining_module = before


def stand_in(path: str, reason: Reason, bases: tuple[Any, ...]) -> type:
    """A class in place of the missing class ``path``, to stand among ``bases`` of a class of the user's.

    It is an nn.Module where its name or the class that is being defined says so, else empty; both take any arguments.
    """
    from torch import nn

    touch(reason)
    name = path.rpartition(".")[2]
    others = [base for base in bases if inspect.isclass(base)]
    # A subclass of nn.Module behind nn.Module itself has no order of resolution, and is not needed there.
    network = not any(issubclass(base, nn.Module) for base in others) and _is_network(path, name)
    kind: type = type(name, (_network_kind() if network else _Plain,), {"_stood_in_for": reason})
    kind.__module__ = path.rpartition(".")[0] or reason.package
    return kind


def _is_network(path: str, name: str) -> bool:
    if path.partition(".")[0] in _PLAIN_PACKAGES or name.endswith(_PLAIN_ENDS):
        return False
    if name.endswith("Mixin") and not name.endswith("ModelMixin"):
        return False
    return name.endswith(_MODULE_ENDS) or _defining_module


class Settings(dict[str, Any]):
    """Arguments that can be read as attributes too, as ``self.hparams`` and ``self.config`` are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class _Plain:
    """An empty class; as a base of settings it keeps what it is given."""

    _stood_in_for: Reason

    def __init_subclass__(cls, **_options: Any) -> None:
        super().__init_subclass__()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        touch(self._stood_in_for, _user_file())
        if any(kind.__name__.endswith("Config") for kind in type(self).__mro__):
            self.__dict__.update(kwargs)
        after = type(self).__mro__[type(self).__mro__.index(_Plain) + 1]
        if after is object or after.__module__.startswith("torch."):
            super().__init__()
        else:
            super().__init__(*args, **kwargs)


def _network_kind() -> type:
    """The stand-in that is an nn.Module; made late, for torch need not be loaded to name a placeholder."""
    global _network
    if _network is None:
        _network = _make_network_kind()
    return _network


_network: type | None = None


def _make_network_kind() -> type:
    from torch import nn

    class Network(nn.Module):
        """An nn.Module with harmless versions of what frameworks' bases offer to a model that is built or run."""

        _stood_in_for: Reason
        trainer: Any = None
        logger: Any = None
        current_epoch = 0
        global_step = 0
        local_rank = 0
        automatic_optimization = True

        def __init_subclass__(cls, **_options: Any) -> None:
            super().__init_subclass__()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()
            touch(self._stood_in_for, _user_file())
            config = kwargs.get("config", args[0] if args else None)
            if config is not None and not isinstance(config, nn.Module):
                self.config = config

        def __getattr__(self, name: str) -> Any:
            if name in ("device", "dtype"):
                tensor = next(iter((*self.parameters(), *self.buffers())), None)
                if tensor is not None:
                    return getattr(tensor, name)
            if name == "hparams":
                return self.__dict__.setdefault("hparams", Settings())
            return super().__getattr__(name)

        def save_hyperparameters(self, *args: Any, ignore: Any = (), **_options: Any) -> None:
            """Keep the arguments of the constructor that calls this as ``hparams``."""
            caller = sys._getframe(1)
            ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore or ())
            given = _arguments(caller.f_code.co_varnames[: _parameter_count(caller)], caller.f_locals)
            names = [each for each in args if isinstance(each, str)] or list(given)
            self.hparams.update({name: given[name] for name in names if name in given and name not in ignored})
            for each in args:
                if isinstance(each, dict):
                    self.hparams.update(each)

        def register_to_config(self, **settings: Any) -> None:
            """Keep settings as ``config``."""
            self.__dict__.setdefault("config", Settings()).update(settings)

        def _nothing(self, *_args: Any, **_kwargs: Any) -> None:
            """Do nothing: what is logged or prepared here has no part in a forward pass."""

        log = log_dict = post_init = print = _nothing
        tie_weights = gradient_checkpointing_enable = gradient_checkpointing_disable = _nothing

    return Network


def _parameter_count(frame: Any) -> int:
    code = frame.f_code
    flags = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return int(code.co_argcount + code.co_kwonlyargcount + flags)


def _arguments(names: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    given = {name: values[name] for name in names if name in values and name not in ("self", "__class__")}
    extra = given.pop("kwargs", None)
    return given | extra if isinstance(extra, dict) else given


def _user_file() -> str:
    """The file of the innermost user code that is running; a stand-in is only ever made by some."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename
