"""Says what figures were measured with."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def machine(work: Path) -> list[str]:
    """Returns lines on the machine, its programs, and the file system of a directory."""
    version = importlib.metadata.version
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cp_version = subprocess.run(["cp", "--version"], check=False, capture_output=True, text=True)
    return [
        f"{os.cpu_count()} cores, {memory / 2**30:.0f} GiB of memory, {cpu_model()}, "
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}, protobuf {version('protobuf')}, "
        f"TensorFlow {version('tensorflow')} on the CPU",
        f"{cp_version.stdout.partition(chr(10))[0] or 'cp'}; {reflinks(work)}",
        f"load average at the start: {os.getloadavg()[0]:.1f}",
    ]


def cpu_model() -> str:
    """Returns the name of the CPU as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown CPU")


def reflinks(work: Path) -> str:
    """Tells whether the file system can copy without copying (FICLONE), as cp tries first."""
    source, clone = work / "reflink", work / "reflink.clone"
    source.write_bytes(bytes(4096))
    try:
        with source.open("rb") as reader, clone.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), 0x40049409, reader.fileno())
    except OSError:
        return "the file system has no reflinks, so that copies move every byte"
    finally:
        source.unlink()
        clone.unlink(missing_ok=True)
    return "the file system has reflinks, so that copies share the bytes"
