"""Stand-ins for packages that are not installed: they may be named, and fail when something uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

_touched: dict[str, None] = {}


class PlaceholderUse(ModuleNotFoundError):  # noqa: N818 (the name says what happened)
    """Something used a package that is not installed."""


class Placeholder:
    """A module, class or function of a package that is not installed.

    Its attributes and items are placeholders too, ``isinstance`` of it is False, in annotations it does no harm, and a
    class may be derived from it (see :func:`base_for`). Calling it, iterating over it, its truth value, arithmetic and
    comparisons raise :class:`PlaceholderUse`.
    """

    def __init__(self, name: str, why: str) -> None:
        self.__dict__["_placeholder"] = (name, why)
        self.__dict__["__name__"] = name.rpartition(".")[2]
        self.__dict__["__module__"] = name.rpartition(".")[0] or name

    def _used(self, *_args: Any, **_kwargs: Any) -> Any:
        name, why = self._placeholder
        _touched[name.partition(".")[0]] = None
        raise PlaceholderUse(f"{name} is used, and {why}", name=name.partition(".")[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        own, why = self._placeholder
        _touched[own.partition(".")[0]] = None
        return Placeholder(f"{own}.{name}", why)

    def __getitem__(self, _key: Any) -> Placeholder:
        return self

    def __or__(self, _other: Any) -> Placeholder:
        return self

    __ror__ = __or__

    def __instancecheck__(self, _value: Any) -> bool:
        return False

    def __subclasscheck__(self, _kind: Any) -> bool:
        return False

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (base_for(self._placeholder[0]),)

    def __repr__(self) -> str:
        return f"<{self._placeholder[0]}, which is not there>"

    def __deepcopy__(self, _memo: Any) -> Placeholder:
        return self

    __call__ = __iter__ = __len__ = __bool__ = __enter__ = _used
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __matmul__ = _used
    __lt__ = __le__ = __gt__ = __ge__ = __int__ = __float__ = __index__ = __contains__ = _used


def is_placeholder(value: Any) -> bool:
    """Whether a value stands for something that is not there."""
    return isinstance(type(value), type) and issubclass(type(value), Placeholder)


def touched() -> tuple[str, ...]:
    """The packages of which something has asked for a part, or that it tried to use, since :func:`forget`."""
    return tuple(_touched)


def stood_in_for(kinds: Iterable[type]) -> tuple[str, ...]:
    """The packages of the stand-ins that classes are derived from."""
    bases = {base for kind in kinds for base in kind.__mro__ if base.__dict__.get("__stand_in__")}
    return tuple(sorted({base.__module__.partition(".")[0] for base in bases}))


def forget() -> None:
    """Begin to note anew what is used."""
    _touched.clear()


def _nothing(self: Any, *_args: Any, **_kwargs: Any) -> None:
    """What a base offers at construction or in training and a check does without."""


def _init_module(self: Any, *args: Any, **kwargs: Any) -> None:
    nn.Module.__init__(self)
    if args and not isinstance(args[0], (int, float, str)) and not isinstance(args[0], nn.Module):
        self.config = args[0]  # PreTrainedModel.__init__(config)
    for name in ("config", "hparams"):
        if name in kwargs:
            setattr(self, name, kwargs[name])


_MODULE_METHODS = (
    "save_hyperparameters", "log", "log_dict", "post_init", "init_weights", "register_to_config", "print",
    "gradient_checkpointing_enable", "tie_weights", "manual_backward", "toggle_optimizer", "untoggle_optimizer",
)  # fmt: skip
_bases: dict[str, type] = {}


def base_for(name: str) -> type:
    """A class to derive from in the place of ``name``: a bare nn.Module where the name says so, else an empty class."""
    if name not in _bases:
        last = name.rpartition(".")[2]
        if last.endswith(("Module", "Model", "ModelBase", "Network", "Net", "Layer", "MessagePassing", "Conv")):
            members: dict[str, Any] = dict.fromkeys(_MODULE_METHODS, _nothing)
            members |= {"__init__": _init_module, "device": property(lambda self: _device(self)), "dtype": _dtype}
            kind = type(last, (nn.Module,), members)
        else:
            kind = type(last, (), {"__init__": _quiet_init, "__init_subclass__": classmethod(_nothing)})
        kind.__stand_in__ = True  # type: ignore[attr-defined]
        kind.__module__ = name.rpartition(".")[0] or name
        _bases[name] = kind
    return _bases[name]


def _quiet_init(self: Any, *args: Any, **kwargs: Any) -> None:
    """Pass on to the next base as far as it takes arguments."""
    kind: Any = _owner(self, _quiet_init)
    following = super(kind, self).__init__
    try:
        following(*args, **kwargs)
    except TypeError:
        following()


def _owner(self: Any, init: Any) -> type:
    return next(kind for kind in type(self).__mro__ if vars(kind).get("__init__") is init)


def _device(self: Any) -> Any:
    import torch

    return next((each.device for each in self.parameters()), torch.device("cpu"))


def _dtype_of(self: Any) -> Any:
    import torch

    return next((each.dtype for each in self.parameters()), torch.float32)


_dtype = property(_dtype_of)
