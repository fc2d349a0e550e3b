"""A Python file as a module, as the scripts read registries of models."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(path: Path | str) -> ModuleType:
    """The module that the file defines, under the file's own name so that its classes can be pickled."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
