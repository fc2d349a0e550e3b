"""The trace as rules read it: ops, parameters and the structure that several rules need. No torch here."""

from stablelint.graph.cuts import Cut
from stablelint.graph.graph import Graph
from stablelint.graph.op import Op, Parameter

__all__ = ["Cut", "Graph", "Op", "Parameter"]
