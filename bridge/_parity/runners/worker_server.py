"""Imports TensorFlow once, and forks a worker whenever it is asked for one.

A script. Its argument is the number of a Unix socket. A request is one packet of JSON: with
`start`, the worker's lane and environment, come three file descriptors, which become the worker's
stdin, stdout and stderr, and the answer is its `pid`; `wait` answers with the status of a pid that
has ended. It ends when the other side closes the socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any

import worker

LONGEST = 1 << 16


def main() -> None:
    """Answers requests."""
    import tensorflow  # noqa: F401 - all workers have it from here

    with socket.socket(fileno=int(sys.argv[1])) as channel:
        channel.sendall(b"{}")
        while True:
            data, files, _, _ = socket.recv_fds(channel, LONGEST, 3)
            if not data:
                return
            request = json.loads(data)
            if "wait" in request:
                _, status = os.waitpid(request["wait"], 0)
                answer = {"status": os.waitstatus_to_exitcode(status)}
            else:
                pid = os.fork()
                if pid == 0:
                    channel.close()
                    run(request["start"], files)
                # Before anybody knows of it: a group of its own is what it will be ended by.
                with contextlib.suppress(ProcessLookupError):
                    os.setpgid(pid, pid)
                for file in files:
                    os.close(file)
                answer = {"pid": pid}
            channel.sendall(json.dumps(answer).encode())


def run(start: dict[str, Any], files: list[int]) -> None:
    """Becomes a worker."""
    status = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(start["environ"])
        sys.argv = [worker.__file__, json.dumps(start["lane"])]
        worker.main()
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
