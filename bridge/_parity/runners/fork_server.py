"""Processes that are forked from one that has TensorFlow already, which takes seconds to import.

Each still is a process of its own, with memory, devices and threads of its own, for TensorFlow
makes those when it is used first. Before that there is one thread, so that forking is safe.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("worker_server.py")

_LONGEST = 1 << 16
_PATIENCE = 300.0
"""Seconds that importing TensorFlow may take."""

_LOOKS_UP = 0.1
"""Seconds after which one who waits for it looks whether it is wanted any more."""


class ForkedProcess:
    """A process that a server forked."""

    def __init__(self, server: ForkServer, pid: int, stdin: IO[str], stdout: IO[str]):
        self.pid = pid
        self.stdin: IO[str] | None = stdin
        self.stdout: IO[str] | None = stdout
        self._server = server
        self._lock = threading.Lock()
        self._status: int | None = None

    def wait(self) -> int:
        """Waits for its end; returns its status."""
        with self._lock:  # the one that gives up on it and the one that talks to it both wait
            if self._status is None:
                self._status = self._server.wait(self.pid)
            return self._status


class ForkServer:
    """The process that has TensorFlow."""

    def __init__(
        self, python: Path, environ: Mapping[str, str], is_wanted: Callable[[], bool] = lambda: True
    ):
        """Starts it, and waits until it has imported TensorFlow.

        Args:
          python: the interpreter.
          environ: its environment.
          is_wanted: asked now and then while that lasts.

        Raises:
          InterruptedError: it is wanted no more.
          OSError: it can't be started, or ends at once, for instance for want of TensorFlow.
        """
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, SERVER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Else numpy's OpenBLAS has threads, which a fork would lose.
                env={**environ, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            self._wait(is_wanted)
            self._answer()
        except BaseException:
            self.close()
            raise

    def start(
        self, lane: Mapping[str, Any], environ: Mapping[str, str], stderr: IO[bytes]
    ) -> ForkedProcess:
        """Forks a worker.

        Raises:
          OSError: the server has ended, or the environment is too large for it.
        """
        their_stdin, stdin = os.pipe()
        stdout, their_stdout = os.pipe()
        request = json.dumps({"start": {"lane": lane, "environ": dict(environ)}}).encode()
        if len(request) > _LONGEST:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        theirs = [their_stdin, their_stdout, stderr.fileno()]
        try:
            with self._lock:
                socket.send_fds(self._channel, [request], theirs)
                pid = self._answer()["pid"]
        except BaseException:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(their_stdin)
            os.close(their_stdout)
        return ForkedProcess(
            self,
            pid,
            open(stdin, "w", encoding="utf-8", errors="replace"),  # noqa: PTH123
            open(stdout, encoding="utf-8", errors="replace"),  # noqa: PTH123
        )

    def wait(self, pid: int) -> int:
        """Waits for the end of a worker that was killed; returns its status."""
        with self._lock, contextlib.suppress(OSError):
            self._channel.sendall(json.dumps({"wait": pid}).encode())
            status: int = self._answer()["status"]
            return status
        return 0

    @property
    def lives(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the server; workers end when their stdin does."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _wait(self, is_wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not select.select([self._channel], [], [], _LOOKS_UP)[0]:
            if not is_wanted():
                raise InterruptedError(errno.EINTR, "it is wanted no more")
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _answer(self) -> dict[str, Any]:
        data = self._channel.recv(_LONGEST)
        if not data:
            raise OSError("the process that forks has ended")
        answer: dict[str, Any] = json.loads(data)
        return answer


_servers: dict[tuple[str, ...], ForkServer | None] = {}
_lock = threading.Lock()


def fork_server(
    python: Path, environ: Mapping[str, str], is_wanted: Callable[[], bool]
) -> ForkServer | None:
    """Returns a server of an interpreter; None where there can be none.

    It is started when it is first asked for, and lives as long as this process.

    Raises:
      InterruptedError: while it was started, `is_wanted` said that it is wanted no more.
    """
    if sys.platform != "linux":  # forking what has libraries of macOS loaded is not safe
        return None
    # Which TensorFlow is imported, and what it reads once, when it is.
    named = ("TF_", "PYTHON", "LD_")
    read = (f"{name}={value}" for name, value in environ.items() if name.startswith(named))
    key = (str(python), *sorted(read))
    with _lock:
        known = _servers.get(key)
        if key not in _servers or (known is not None and not known.lives):
            try:
                server = ForkServer(python, environ, is_wanted)
            except InterruptedError:
                raise
            except OSError:
                _servers[key] = None  # a process of its own will say what is wrong
            else:
                _servers[key] = server
                atexit.register(server.close)
        return _servers[key]
