"""Limits on what user code can reach from the process that runs it: no network, no writes but to a scratch folder.

This keeps scripts harmless that download or save something while they are imported; it is no wall against code that
means harm, which can go around Python. It cannot be taken back: only a process of our own calls :func:`settle`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Where libraries put what they compile or download, by the variable that tells them.
_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "HF_HOME": "huggingface",
    "HF_DATASETS_CACHE": "datasets",
    "WANDB_DIR": "wandb",
    "KERAS_HOME": "keras",
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS = ("/dev/", "/proc/self/")
#: Programs that install or fetch something.
_FETCHERS = {"pip", "pip3", "wget", "curl", "gdown", "aria2c", "apt", "apt-get", "conda", "mamba", "uv"}
# By audit event: which arguments are paths that are written to.
_CHANGES: dict[str, tuple[int, ...]] = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
    "sqlite3.connect": (0,),
}

_scratch: tuple[str, ...] = ()  # while empty nothing is refused


def settle(scratch: Path) -> None:
    """From now on this process has no network and writes to ``scratch`` only; libraries keep their caches there.

    Connections to this machine stay allowed, and so does reading. Raises OSError for a folder that is not there.
    """
    global _scratch
    first = not _scratch
    _scratch = tuple({str(scratch), str(scratch.resolve(strict=True))})
    sys.dont_write_bytecode = True
    tempfile.tempdir = str(scratch)
    _keep_readable("HF_HUB_CACHE", ("HF_HOME", "hub"), (".cache", "huggingface", "hub"))
    _keep_readable("TORCH_HOME", ("XDG_CACHE_HOME", "torch"), (".cache", "torch"))
    os.environ["TMPDIR"] = str(scratch)
    os.environ.update({name: str(scratch / folder) for name, folder in _CACHES.items()})
    os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="disabled", PYTHONDONTWRITEBYTECODE="1")
    for name in _PROXIES:  # a proxy on this machine would be a way out
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    _guard_torch_save()
    if first:  # an audit hook stays for ever
        sys.addaudithook(_audit)


def _keep_readable(variable: str, told: tuple[str, str], usual: tuple[str, ...]) -> None:
    """What is already on this machine can still be read when the caches have moved."""
    if variable in os.environ:
        return
    base = os.environ.get(told[0])
    present = Path(base, told[1]) if base else Path.home().joinpath(*usual)
    with contextlib.suppress(OSError):
        if present.is_dir():
            os.environ[variable] = str(present)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _scratch:
        return
    if event == "open":
        path, _, flags = args
        if isinstance(flags, int) and flags & _WRITES:
            _refuse_write(path)
    elif event in _CHANGES:
        for index in _CHANGES[event]:
            if event != "os.mkdir" or not _is_folder(args[index]):  # makedirs(exist_ok=True) of what exists
                _refuse_write(args[index])
    elif event.startswith("socket."):
        _audit_socket(event, args)
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        _refuse_fetcher(event, args)


def _audit_socket(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[-1]
        if args[0].family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            _refuse_host(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        _refuse_host(args[0])


def _refuse_host(host: Any) -> None:
    name = host.decode(errors="replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost", _HOST) or not isinstance(name, str):
        return
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name.partition("%")[0])
        if address.is_loopback or address.is_unspecified:
            return
    raise ConnectionError(f"there is no network during a check: {name} cannot be reached")


def _refuse_write(path: Any) -> None:
    if isinstance(path, int) or path is None:  # a file that is already open
        return
    try:
        text = os.fsdecode(path)
    except TypeError:
        return
    if text in ("", ":memory:") or text.startswith(("file::memory:", "file:")):
        return
    parent, name = os.path.split(os.path.abspath(text))  # noqa: PTH100 (runs inside every open)
    real = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
    if real.startswith(_HARMLESS) or any(real == each or real.startswith(each + os.sep) for each in _scratch):
        return
    raise PermissionError(f"nothing is written during a check: {text} stays as it is")


def _refuse_fetcher(event: str, args: tuple[Any, ...]) -> None:
    if event == "os.system":
        words = os.fsdecode(args[0]).split()
    elif event == "subprocess.Popen":
        given = args[1]
        words = given.split() if isinstance(given, str) else [os.fsdecode(each) for each in given or ()]
    else:
        words = [os.fsdecode(each) for each in args[1]]
    program = next((os.path.basename(word) for word in words[:4] if os.path.basename(word) in _FETCHERS), None)  # noqa: PTH119
    if program is not None:
        raise PermissionError(f"nothing is installed or fetched during a check: {program} is not run")


def _is_folder(path: Any) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112
    except TypeError:
        return False


def _guard_torch_save() -> None:
    """``torch.save`` to a path opens it outside of Python, where no audit event tells of it."""
    torch: Any = sys.modules.get("torch")
    if torch is None or getattr(torch.save, "_stablelint_guard", False):
        return
    original: Callable[..., None] = torch.save

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, str | os.PathLike):
            _refuse_write(f)
        original(obj, f, *args, **kwargs)

    save._stablelint_guard = True  # type: ignore[attr-defined]
    torch.save = save


_HOST = socket.gethostname()
