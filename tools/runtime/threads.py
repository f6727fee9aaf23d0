"""Few threads for little work.

A small network on one picture or token is done before a second thread has started; where the cores are busy, waiting for
that thread costs many times the work (measured with the pocket policy and two threads that share a core: 2.1 s instead of
0.04 to read a dialogue, 0.47 s instead of 0.03 to embed a picture). numpy multiplies matrices with OpenBLAS, whose number of
threads belongs to the whole process and can be set by a call that numpy does not show. Where numpy was built with another
library (Accelerate on a Mac, MKL), nothing is changed: slower where cores are busy, never wrong.

Invariant: the number is as before afterwards, whichever threads of this process asked at the same time. threadpoolctl 3.8
does not keep it: with OpenBLAS only the first thread that asks has an effect, and searches run in many.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_PREFIXES, _SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")
_lock = threading.Lock()
_inside, _before = 0, 1


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """Let numpy multiply on the calling thread alone; `when` False changes nothing."""
    calls = _calls()
    if not when or calls is None:
        yield
        return
    _enter(*calls)
    try:
        yield
    finally:
        _leave(calls[1])


def _enter(get: Callable[[], int], put: Callable[[int], None]) -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = get()
            put(1)
        _inside += 1


def _leave(put: Callable[[int], None]) -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            put(_before)


@cache
def _calls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's functions that read and set the number, through the numpy module linked with it; None without OpenBLAS."""
    try:
        library: Any = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError):
        return None
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            get = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            put = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                return get, put
    return None
