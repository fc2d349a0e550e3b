"""Lightning modules, without Lightning."""

from __future__ import annotations

from torch import nn


def network(model: nn.Module) -> nn.Module:
    """``model``; for a LightningModule that only trains another network and has no forward of its own, that network.

    The network gets the ``example_input_array`` of its wrapper.
    """
    kinds = type(model).__mro__
    base = next((kind for kind in kinds if kind.__name__ == "LightningModule" and kind is not type(model)), None)
    if base is None or getattr(type(model), "forward", None) is not getattr(base, "forward", None):
        return model
    children = [child for child in model.children() if any(True for _ in child.parameters())]
    if not children:
        return model
    inner = max(children, key=lambda child: sum(each.numel() for each in child.parameters()))
    given = getattr(model, "example_input_array", None)
    if given is not None and getattr(inner, "example_input_array", None) is None:
        object.__setattr__(inner, "example_input_array", given)
    return inner
