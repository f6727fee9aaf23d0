"""Pictures decoded in a process of its own, under limits of the system, because their cost cannot be told from their header.

This holds for large lossless WebP only: the tables of its codes may take over a gigabyte. Starting the process takes about 0.1 s.
"""

from __future__ import annotations

import subprocess
import sys

from PIL import Image

from lensgraph.tools.guard.addresses import Refused
from lensgraph.tools.guard.headers import FirstPicture

MEMORY = 320_000_000
"""Bytes that the process may take beyond what the interpreter and Pillow take; the rest of a picture's is for this one."""
SECONDS = 2
"""CPU seconds that the process may take, its start included."""
PATIENCE = 30
"""Seconds waited for it, where the machine is busy."""

_PROGRAM = f"""
import io, resource, sys
from PIL import Image
Image.preinit()
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
for limit, value in ((resource.RLIMIT_CPU, {SECONDS}), (resource.RLIMIT_AS, taken + {MEMORY}), (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(limit, (value, value))
picture = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=(sys.argv[1],))
if picture.size != (int(sys.argv[2]), int(sys.argv[3])):
    sys.exit(3)
picture.load()
sys.stdout.buffer.write(picture.mode.encode().ljust(4))
sys.stdout.buffer.write(picture.tobytes())
"""


def decode(first: FirstPicture, name: str) -> Image.Image:
    """The decoded picture in its own mode, not yet upright.

    Raises:
        Refused: it is damaged, it took more than the limits, or this system knows none (Windows).
    """
    if sys.platform == "win32":
        raise Refused(f"{name}: a lossless WebP of this size is not read on Windows; save it as PNG or JPEG.")
    command = [sys.executable, "-I", "-c", _PROGRAM, first.format, str(first.width), str(first.height)]
    try:
        done = subprocess.run(command, input=first.data, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{name}: took over {PATIENCE} s to decode; save it as PNG or JPEG.") from error
    mode = done.stdout[:4].strip().decode("ascii", "replace")
    if done.returncode != 0 or mode not in ("RGB", "RGBA"):
        raise Refused(
            f"{name}: damaged {first.format} file, or one that takes over {SECONDS} s or {MEMORY / 1e6:,.0f} MB to decode; "
            "save it as PNG or JPEG."
        )
    return Image.frombytes(mode, (first.width, first.height), memoryview(done.stdout)[4:])
