"""stablelint: find out before training that a PyTorch model cannot train."""

from __future__ import annotations

from stablelint.inputs import Inputs

__version__ = "0.1.0"
__all__ = ["Inputs", "__version__"]
