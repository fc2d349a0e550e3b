"""The user's data: how a batch becomes the arguments of a model, and the target of a loss.

The forward's signature decides. Of a tuple ``(x, y)`` the last item is the target when the loss takes one or when
forward has no other use for it; of a dict those items are that forward does not take by name.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stablelint.errors import InputTargetError, did_you_mean
from stablelint.inputs import Inputs

#: Names of targets: an argument of forward that is called so takes them, and a model that does has a loss of its own.
LABELS = frozenset({"label", "labels", "target", "targets", "y", "y_true", "gt"})


def is_loader(value: object) -> bool:
    """Whether a value gives batches: a DataLoader, an iterable data set, a generator; no list, which may be inputs."""
    if isinstance(value, Inputs | Mapping | tuple | list | str) or hasattr(value, "shape"):
        return False
    data: Any = sys.modules.get("torch.utils.data")
    loaders = () if data is None else (data.DataLoader, data.IterableDataset)
    return isinstance(value, loaders) or hasattr(value, "__next__")


class Batches:
    """The batches of a loader by number, fetched when they are asked for; behind the last stands the first again."""

    def __init__(self, loader: Any) -> None:
        self._coming: Iterator[Any] | None = iter(loader)
        self._seen: list[Any] = []

    def __getitem__(self, number: int) -> Any:
        """The batch of this number, from 0. Raises InputTargetError when there is none at all."""
        while self._coming is not None and len(self._seen) <= number:
            try:
                self._seen.append(next(self._coming))
            except StopIteration:
                self._coming = None
        if not self._seen:
            raise InputTargetError("the loader is empty: it gives no batch")
        return self._seen[number % len(self._seen)]


def second_argument(loss: Callable[..., Any] | None) -> str:
    """What a loss takes behind the output: "target", "batch" (where it calls it so) or nothing, ""."""
    parameters = [] if loss is None else _positional(getattr(loss, "forward", loss))
    needed = [each for each in parameters if each.default is each.empty]
    if len(needed) > 2:
        names = ", ".join(each.name for each in needed)
        raise InputTargetError(
            f"the loss takes ({names}); write it as loss(output), loss(output, target) or loss(output, batch)"
        )
    if len(parameters) < 2:
        return ""
    name = parameters[1].name
    if name == "batch":
        return name
    return "target" if len(needed) == 2 or name in LABELS else ""


def arrange(model: Any, value: Any, loss: Callable[..., Any] | None = None, *, loader: bool = False) -> Inputs:
    """The arguments of ``model`` in one batch, with the target beside them.

    A batch is a tensor, a tuple, a dict or :class:`~stablelint.inputs.Inputs`; of a ``loader`` also a list. What is
    no batch of a loader is meant as the model's arguments, but for the target of a loss that takes one. Raises
    InputTargetError with one sentence when forward does not take what the batch holds.
    """
    if isinstance(value, Inputs) and value.batch is not None:
        return value  # arranged before
    second = second_argument(loss)
    given = Inputs.of(
        tuple(value) if loader and isinstance(value, list) else dict(value) if _is_table(value) else value
    )
    batch = _Batch(list(given.args), dict(given.kwargs), _Room.of(model), second, loader)
    if loader or second:
        batch.split()
    arranged = Inputs(*batch.args, **batch.kwargs)
    arranged.target, arranged.batch = batch.target, value
    return arranged


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and not isinstance(value, dict)


@dataclass
class _Room:
    """What the forward of a model takes: names of its arguments, and how many of them by position."""

    name: str
    signature: str
    names: list[str]
    least: int
    most: float
    any_name: bool

    @classmethod
    def of(cls, model: Any) -> _Room:
        for wrapper in ("_orig_mod", "module"):  # torch.compile and DistributedDataParallel take anything
            inner = getattr(model, wrapper, None)
            model = inner if callable(getattr(inner, "forward", None)) else model
        try:
            parameters = list(inspect.signature(model.forward).parameters.values())
        except (TypeError, ValueError):
            return cls(type(model).__name__, "...", [], 0, math.inf, True)
        places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        names = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        return cls(
            type(model).__name__,
            ", ".join(map(str, (each.replace(annotation=each.empty) for each in parameters))),
            names,
            sum(each.default is each.empty for each in places),
            math.inf if any(each.kind is each.VAR_POSITIONAL for each in parameters) else len(places),
            any(each.kind is each.VAR_KEYWORD for each in parameters),
        )


@dataclass
class _Batch:
    """One batch on its way to the model."""

    args: list[Any]
    kwargs: dict[str, Any]
    room: _Room
    second: str
    loader: bool
    target: Any = field(default=None)

    def split(self) -> None:
        """Move the target out of the arguments."""
        if self.kwargs and not self.args:
            self._split_table()
        elif self._last_is_target():
            self.target = self.args.pop()
        if self.target is None:
            self.target = next((item for key, item in self.kwargs.items() if key in LABELS), None)
        if self.second == "target" and self.target is None:
            raise InputTargetError(
                f"the loss takes a target, and {self._held()} for {self._call()}; "
                "give batches (x, target) or dicts with a target under another name"
            )
        if len(self.args) == 1 and isinstance(self.args[0], tuple | list) and self.room.least > 1:
            self.args = list(self.args[0])  # ((a, b), target)
        taken = sum(name in self.room.names[: self.room.least] for name in self.kwargs)
        if not self.room.least - taken <= len(self.args) <= self.room.most:
            raise InputTargetError(
                f"{self._held()} for {self._call()}; give a tuple of its arguments in this order with at most one "
                "target behind them, a dict with their names, or stablelint.Inputs"
            )

    def _last_is_target(self) -> bool:
        count, room = len(self.args), self.room
        if count - 1 < max(room.least, 1):
            first = self.args[0] if count == 2 else None  # ((a, b), target) for a forward(a, b)
            return isinstance(first, tuple | list) and room.least <= len(first) <= room.most
        if self.second == "target" or count > room.most:
            return True
        return self.loader and room.most < math.inf and room.names[count - 1] not in LABELS

    def _split_table(self) -> None:
        """A dict: by the names of forward, or as the one argument that a forward(batch) takes."""
        room = self.room
        spare = {} if room.any_name else {key: item for key, item in self.kwargs.items() if key not in room.names}
        labels = [key for key in spare if key in LABELS]
        unknown = [key for key in spare if key not in LABELS]
        if len(spare) == len(self.kwargs) and room.least == 1 and (not labels or room.names[0] == "batch"):
            self.args, self.kwargs = [dict(self.kwargs)], {}
            self.target = spare[labels[0]] if len(labels) == 1 else None
            return
        if len(unknown) == 1 and len(spare) == len(self.kwargs) and room.least == 1:
            self.args, unknown = [spare[unknown[0]]], []  # {"image": x, "label": y} for a forward(x)
        for key in spare:
            del self.kwargs[key]
        if unknown and not self.second:
            near = did_you_mean(unknown[0], room.names)
            raise InputTargetError(
                f'the batch holds "{unknown[0]}", which {self._call()} does not take'
                + (near or "; leave it out or give a loss(output, batch) that uses it")
            )
        target = [spare[key] for key in labels or unknown]
        self.target = target[0] if len(target) == 1 else spare or None

    def _held(self) -> str:
        if self.kwargs:
            return f"the batch holds {', '.join(self.kwargs)}"
        return f"the batch holds {len(self.args)} item{'s' if len(self.args) != 1 else ''}"

    def _call(self) -> str:
        return f"{self.room.name}.forward({self.room.signature})"


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in: nothing is known
        return []
    return [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
