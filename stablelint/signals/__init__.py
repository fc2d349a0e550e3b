"""Signals of a model, measured or predicted: the evidence that symptoms are judged on."""

from stablelint.signals.deep import LEARNED, Deep, Fit, HalfRun, Learning, Modes, Precision, Trigger
from stablelint.signals.parameters import ParameterSignal
from stablelint.signals.signals import Break, NonFinite, Signal, Signals

__all__ = [
    "LEARNED",
    "Break",
    "Deep",
    "Fit",
    "HalfRun",
    "Learning",
    "Modes",
    "NonFinite",
    "ParameterSignal",
    "Precision",
    "Signal",
    "Signals",
    "Trigger",
]
