"""The caches of this process: one for equal settings."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from lensgraph.tools.cache.cache import Cache
from lensgraph.tools.cache.settings import CacheSettings
from lensgraph.tools.runtime.home import home

KEPT_CACHES = 32
"""Caches of different settings that a process shares out; one used longer ago is opened anew."""

_by_settings: OrderedDict[str, Cache] = OrderedDict()
_guard = threading.Lock()


def shared(settings: CacheSettings) -> Cache | None:
    """The cache of these settings, the same one for everybody in this process. None: it is off."""
    if settings.mode == "off":
        return None
    name = f"{settings.model_dump_json()} {home()}"
    with _guard:
        if name not in _by_settings:
            _by_settings[name] = Cache(settings)
        _by_settings.move_to_end(name)
        while len(_by_settings) > KEPT_CACHES:
            _by_settings.popitem(last=False)  # its tools keep it; two caches of one folder share the file
        return _by_settings[name]


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()  # the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
