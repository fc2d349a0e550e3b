"""A module whose forward pass is a function of it and its arguments."""

from __future__ import annotations

from torch import nn


class Functional(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)
