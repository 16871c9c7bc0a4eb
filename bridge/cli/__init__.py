"""The command line: `hubbridge`, and `python -m bridge`.

Commands are thin mirrors of the functions in `bridge`; what they need is imported when they run, so
that `--help` is fast. Data goes to stdout, talk to stderr.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

KILLED = 128
"""What shells add to the number of a signal, for the exit code after it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; those of the process by default.

    Returns:
      The exit code: 0 done; 1 parity or check failed; 2 usage; 3 the model needs something
      unsupported; 4 refused, malformed or unsafe input; 5 internal error.
    """
    if argv is None:
        # The process ends with the command. Until then it makes millions of objects, which the
        # collector would look at again and again: a fifth of a conversion's time.
        gc.disable()
        # As Ctrl-C does, they leave neither files nor processes behind.
        signal.signal(signal.SIGTERM, _terminate)
        # There is none on Windows, and after nohup it means nothing.
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
            signal.signal(hangup, _terminate)
    try:
        from bridge.cli._app import run

        return run(argv)
    except KeyboardInterrupt:
        if argv is None:
            # Threads are still waited for; a second one would print where.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return INTERRUPTED
    except Exception as error:
        from bridge.cli._errors import report_error

        return report_error(error)


def _terminate(number: int, _: object) -> NoReturn:
    # When a terminal closes, both it and the shell may say so; what is under way here is the end.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(KILLED + number)
