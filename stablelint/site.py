"""Where something is: the module path in the model and the line in the user's code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the model and in the user's source; what joins causes, symptoms and reports.

    ``module`` is the dotted path as in ``named_modules()`` (empty for the root), ``line`` counts from 1
    and ``column`` counts characters from 1. What is unknown is None.
    """

    module: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None

    @property
    def line_key(self) -> tuple[str | None, int | None]:
        """What two findings share when a user would say that they are on the same line."""
        return (self.file, self.line)

    def __str__(self) -> str:
        if self.file is None:
            return self.module or "the model"
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


#: The site of what has none.
NOWHERE = Site()
