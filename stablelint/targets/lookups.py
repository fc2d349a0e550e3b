"""What a forward pass does with its integer arguments and with those that must lie between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from stablelint.targets.blame import place


class Lookups(TorchFunctionMode):
    """``vocabulary`` maps the index of an argument to the smallest table that it was looked up in.

    ``chances`` are the arguments that a loss wants between 0 and 1.
    """

    def __init__(self, ours: Sequence[Any]) -> None:
        super().__init__()
        self.ours = ours
        self.vocabulary: dict[int, int] = {}
        self.chances: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        try:
            self._look(func, args, kwargs)
        except Exception:  # arguments that the function itself will refuse
            return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _look(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if func is F.embedding:
            self._table(_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight").shape[0])
        elif func is F.one_hot:
            self._table(_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "num_classes"))
        elif func in (F.cross_entropy, F.nll_loss):
            scores, target = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "target")
            if not target.is_floating_point():
                self._table(target, scores.shape[1 if scores.ndim > 1 else 0])
        elif func in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
            both = func is F.binary_cross_entropy
            for at, name in ((0, "input"), (1, "target"))[0 if both else 1 :]:
                index = place(_argument(args, kwargs, at, name), self.ours)
                if index is not None:
                    self.chances.add(index)
        elif func is torch.Tensor.__getitem__ and isinstance(args[0], torch.Tensor):
            each = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
            if isinstance(each, torch.Tensor) and each.dtype is torch.long:
                self._table(each, args[0].shape[0])
        elif func in (torch.gather, torch.Tensor.gather, torch.index_select, torch.Tensor.index_select):
            self._table(_argument(args, kwargs, 2, "index"), args[0].shape[_argument(args, kwargs, 1, "dim")])

    def _table(self, index: Any, size: Any) -> None:
        found = place(index, self.ours)
        if found is not None and isinstance(size, int) and size > 0:
            self.vocabulary[found] = min(size, self.vocabulary.get(found, size))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str) -> Any:
    return args[at] if len(args) > at else kwargs[name]
