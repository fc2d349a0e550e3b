"""Record one run of a model: the only part of stablelint that knows torch.fx."""

from __future__ import annotations

from stablelint.trace.origins import Origins, observe_build
from stablelint.trace.recorder import Listener
from stablelint.trace.tracer import Trace, tensors_in, trace

__all__ = ["Listener", "Origins", "Trace", "observe_build", "tensors_in", "trace"]
