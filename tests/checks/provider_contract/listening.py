"""Everything that is logged in this process, caught for the case that looks for keys."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_guard = threading.RLock()
"""Levels of loggers are global state of the process."""
_listeners: list[io.StringIO] = []


class _Tap(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            line = self.format(record)
            for listener in list(_listeners):
                listener.write(line + "\n")


_tap = _Tap(logging.DEBUG)
_before: list[tuple[str, int]] = []
_LOGGERS = ("", "httpx", "httpcore", "langchain_core", "lensgraph")


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """Everything that is logged in this process meanwhile, at the level DEBUG."""
    text = io.StringIO()
    with _guard:
        if not _listeners:
            logging.getLogger().addHandler(_tap)
            _before.extend((name, logging.getLogger(name).level) for name in _LOGGERS)
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.DEBUG)
        _listeners.append(text)
    try:
        yield text
    finally:
        with _guard:
            _listeners.remove(text)
            if not _listeners:
                logging.getLogger().removeHandler(_tap)
                while _before:
                    name, level = _before.pop()
                    logging.getLogger(name).setLevel(level)
