"""The graphs that predictions are made from, kept on disk as long as the recorder's source does not change."""

from __future__ import annotations

import functools
import hashlib
import pickle
from pathlib import Path

from prediction_cases import Case
from prediction_truth import Truth, built, ops_digest, weights_digest

import stablelint
from stablelint.graph import Graph
from stablelint.inputs import Inputs
from stablelint.trace import trace


class Graphs:
    """Graphs with the number of the model's parameters, by case; on disk where there is a folder for them."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._held: dict[str, tuple[Graph, int]] = {}

    def of(self, case: Case, truth: Truth) -> tuple[Graph, int] | None:
        """The graph of the case's first draw; None if the truth is of another one."""
        key = hashlib.sha256(f"{_recorder()} {case.name} {truth.ops} {truth.weights}".encode()).hexdigest()[:24]
        path = self.folder / f"{key}.pickle" if self.folder else None
        if key not in self._held and path and path.exists():
            self._held[key] = pickle.loads(path.read_bytes())
        if key not in self._held:
            found = traced(case, truth)
            if found is None:
                return None
            self._held[key] = found
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(found))
        return self._held[key]


@functools.cache
def _recorder() -> str:
    """A digest of the source that makes graphs."""
    root = Path(stablelint.__file__).parent
    files = sorted(path for folder in ("trace", "graph") for path in (root / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def traced(case: Case, truth: Truth) -> tuple[Graph, int] | None:
    """The graph as ``stablelint check`` sees it and the number of parameters; None if the truth is of another model.

    Where a run on real tensors takes another branch than one on fake tensors, the graph of the real one.
    """
    for fake in (True, False):
        model, args, kwargs = built(case, 0)
        if weights_digest(model) != truth.weights:
            return None
        graph = trace(model.train(), Inputs(*args, **kwargs), fake=fake).graph
        if ops_digest(graph) == truth.ops:
            return graph, sum(parameter.numel() for parameter in model.parameters())
    return None
