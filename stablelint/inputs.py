"""What a model is called with."""

from __future__ import annotations

from typing import Any


class Inputs:
    """Positional and keyword arguments of one forward pass.

    ``example_inputs()`` may return a tensor or a tuple (positional), a dict (keywords), or this for both::

        def example_inputs():
            return stablelint.Inputs(torch.randn(2, 3, 32, 32), mask=None)

    ``target`` is what belongs to the batch and is no argument of the model, ``batch`` the whole of it as it was given;
    :func:`stablelint.feed.arrange` tells them apart, and they go to a loss that takes them.
    """

    __slots__ = ("args", "batch", "kwargs", "target")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs
        self.target: Any = None
        self.batch: Any = None

    @classmethod
    def of(cls, value: Any) -> Inputs:
        """Read what ``example_inputs()`` returned: Inputs, a dict, a tuple or list, or one value."""
        if isinstance(value, Inputs):
            return value
        if isinstance(value, dict):
            return cls(**value)
        if isinstance(value, tuple):
            return cls(*value)
        return cls(value)

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"Inputs({', '.join(parts)})"
