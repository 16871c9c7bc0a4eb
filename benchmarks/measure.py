"""Measures one process: prints its wall time, CPU time and peak memory as JSON.

    python -I -S measure.py COMMAND [ARG …]

It imports next to nothing: on Linux a process inherits the peak memory of the one that started it,
so a figure can't be lower than `floor`, the memory of this launcher.
"""

import os
import resource
import sys
import time

RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> int:
    start = time.perf_counter()
    pid = os.posix_spawnp(
        sys.argv[1],
        sys.argv[1:],
        os.environ,
        # What the process prints goes to stderr, out of the way of the figures.
        file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    memory = usage.ru_maxrss * RSS_UNIT
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    print(f'{{"seconds": {seconds}, "cpu": {cpu}, "memory": {memory}, "floor": {floor}}}')
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
