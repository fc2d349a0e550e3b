"""Signals of a model, measured or predicted: the evidence that symptoms are judged on."""

from stablelint.signals.signals import Break, NonFinite, ParameterSignal, Signal, Signals

__all__ = ["Break", "NonFinite", "ParameterSignal", "Signal", "Signals"]
