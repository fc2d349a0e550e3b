"""The weights of a checkpoint in the place of the initial ones: its files, its names, its values."""

from __future__ import annotations

from stablelint.targets.checkpoint.values import fill

__all__ = ["fill"]
