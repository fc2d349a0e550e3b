"""Predict the signal and the gradient at every op from the graph alone: an abstract interpreter, no torch."""

from __future__ import annotations

from stablelint.garbage import garbage_kept
from stablelint.graph.graph import Graph
from stablelint.predict.interpreter import Interpretation, run
from stablelint.predict.readout import signals
from stablelint.predict.wake import awakened
from stablelint.signals.signals import Signals

__all__ = ["Interpretation", "interpret", "predict"]


def predict(graph: Graph) -> Signals:
    """The predicted signals of ``graph`` at initialisation.

    Float inputs are taken with the moments of the example that was given (N(0, 1) where it looks like that), integer
    inputs as uniform random ids where they are not known, parameters as independent elements of their mean and
    deviation; the loss is a fixed random projection of the deepest output. Where (almost) zero-initialised parameters
    stop the gradient, they get a small value first.
    """
    with garbage_kept():
        return awakened(graph, lambda graph: signals(run(graph)))


def interpret(graph: Graph) -> Interpretation:
    """The abstract values behind a prediction, and the ops that no rule covers."""
    return run(graph)
