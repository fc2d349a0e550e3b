"""One report of many processes: under ``torchrun`` the first one speaks, and none leaves before it has."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta

#: Seconds that a process waits for the others to have their result, too.
_PATIENCE = 60


def first() -> bool:
    """Whether this process is the one that reports: the only one, or the first that ``torchrun`` started."""
    return _number("WORLD_SIZE", 1) == 1 or _number("RANK", 0) == 0


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Keep the output of all processes but the first, and leave together.

    ``torchrun`` stops all others as soon as one ends with an exit code that is not 0, and a finding is one.
    """
    if _number("WORLD_SIZE", 1) == 1:
        yield
        return
    with contextlib.ExitStack() as stack:
        if not first():
            silence = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123 (no path of a file)
            stack.enter_context(contextlib.redirect_stdout(silence))
            stack.enter_context(contextlib.redirect_stderr(silence))
        try:
            yield
        finally:
            sys.stdout.flush()
            _wait_for_all()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is said: each ends with its own exit code


def _wait_for_all() -> None:
    """Meet the other processes at the store of ``torchrun``; whoever else starts processes has no such store."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    patience = timedelta(seconds=_PATIENCE)
    run = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")]
    place = "/".join(["stablelint", *run])
    with contextlib.suppress(RuntimeError):  # one that failed before it came here keeps nobody for ever
        host, port = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0)
        store = TCPStore(host, port, is_master=False, timeout=patience)
        if store.add(f"{place}/arrived", 1) == _number("WORLD_SIZE", 1):
            store.set(f"{place}/all", "")
        store.wait([f"{place}/all"], patience)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
