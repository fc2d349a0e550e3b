"""Measuring the signals of a model on real tensors."""

from stablelint.probe.measure import SEEDS, measure

__all__ = ["SEEDS", "measure"]
