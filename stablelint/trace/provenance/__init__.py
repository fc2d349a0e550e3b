"""The initial distribution of every parameter of a model, also of one that is built without allocating it."""

from __future__ import annotations

from stablelint.trace.provenance.builder import SMALL, Builder, TooLarge
from stablelint.trace.provenance.fake import fake_weight, quiet_fakes
from stablelint.trace.provenance.store import Moments, Provenance

__all__ = ["SMALL", "Builder", "Moments", "Provenance", "TooLarge", "fake_weight", "quiet_fakes"]
