"""The batches of a measurement: the one that was given, or the first of a loader, which is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from stablelint.errors import InputTargetError, TargetError, UsageError
from stablelint.feed import Batches, arrange
from stablelint.inputs import Inputs
from stablelint.probe.batches import converted
from stablelint.probe.state import random_states
from stablelint.trace.contents import Contents

Rebuild = Callable[[int], tuple[nn.Module, Inputs]]


def supply(
    model: nn.Module,
    inputs: Inputs | Iterable[Any],
    *,
    rebuild: Rebuild | None = None,
    loss: Callable[..., Any] | None = None,
    batches: int | None = None,
    default: int = 1,
    first_seed: int = 0,
) -> tuple[Inputs, Rebuild | None]:
    """The first batch, and how to get model and batch of another seed.

    Of a loader (whatever can be iterated and is no tensor, tuple or dict) the first ``batches`` are taken and brought
    to the model's device, and further seeds go through them again; without a number ``default``, and more as they are
    asked for. Seeds count from ``first_seed``. The loader's generators and the random states are restored; a plain
    iterator moves on. Raises InputTargetError in one sentence when there is no batch that fits.
    """
    if isinstance(inputs, Inputs | tuple | dict) or hasattr(inputs, "shape") or not hasattr(inputs, "__iter__"):
        if batches is not None:
            raise UsageError(f"batches={batches} counts the batches of a loader, and one batch was given")
        return arrange(model, inputs, loss), None if rebuild is None else _arranged(rebuild, loss)

    def taken(count: int) -> list[Inputs]:
        return [arrange(model, _beside(model, each), loss, loader=True) for each in _first(inputs, count)]

    given = taken(batches or default)
    fixed = batches is not None or len(given) < default

    def again(seed: int) -> tuple[nn.Module, Inputs]:
        nonlocal given, fixed
        number = seed - first_seed
        if number >= len(given) and not fixed:  # from the start again, with the same order; an iterator goes on
            more = given + taken(number) if iter(inputs) is inputs else taken(2 * number)
            fixed = len(more) <= len(given)
            given = given if fixed else more
        fresh = model if rebuild is None else rebuild(seed)[0]
        return fresh, given[number % len(given)]

    return given[0], again


def _beside(model: nn.Module, batch: Any) -> Any:
    """The batch on the device of the model: loaders give theirs on the CPU."""
    device = next((parameter.device for parameter in model.parameters()), None)
    if device is None or device.type in ("cpu", "meta"):
        return batch
    return converted(batch, lambda tensor: tensor.to(device))


def _arranged(rebuild: Rebuild, loss: Callable[..., Any] | None) -> Rebuild:
    def again(seed: int) -> tuple[nn.Module, Inputs]:
        model, inputs = rebuild(seed)
        return model, arrange(model, inputs, loss)

    return again


def _first(loader: Iterable[Any], count: int) -> list[Any]:
    """The first batches, fewer where the loader has fewer."""
    found: list[Any] = []
    with _untouched(loader):
        try:
            batches = Batches(loader)
            for number in range(count):
                batch = batches[number]
                if number and batch is found[0]:  # it has no more
                    break
                found.append(batch)
        except TargetError:
            raise
        except Exception as error:
            text = str(error).strip().splitlines()
            line = f": {text[-1] if text[0].startswith('Caught') else text[0]}" if text else ""
            raise InputTargetError(
                f"the loader raises {type(error).__name__}{line} at batch {len(found) + 1}"
            ) from error
    return found


@contextmanager
def _untouched(loader: Iterable[Any]) -> Iterator[None]:
    """Restore the random states, and the generators and counters of the loader, its samplers and its data set."""
    parts = [loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler", "dataset"))]
    inside = [item for part in parts for item in getattr(part, "__dict__", {}).values()]
    contents = Contents(inside)
    with random_states():
        try:
            yield
        finally:
            contents.restore()
