"""The things that a process builds once and shares between runs: tools, policies and image stores, by their settings.

Invariant: equal settings give the same object, also when several threads ask at the same time; a build that fails is
tried again.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from lensgraph.agent.config import ConfigError, ImagesConfig
from lensgraph.agent.images import MEMORY_BYTES, ImageStore

T = TypeVar("T")
KEPT_BUILT = 128
"""Tools, policies and stores on disk that a process keeps for further runs. Callers of a server may bring settings of their
own, so the longest unused one is dropped; it lives on where it is in use."""

_built: OrderedDict[tuple[str, str], Any] = OrderedDict()
_locks: dict[tuple[str, str], threading.Lock] = {}
"""One lock for each key that is being built right now."""
_guard = threading.Lock()


def once(key: tuple[str, str], make: Callable[[], T]) -> T:
    """`make()` once a process for this key, also when several threads ask at the same time."""
    with _guard:
        if key in _built:
            _built.move_to_end(key)
            return cast("T", _built[key])
        lock = _locks.setdefault(key, threading.Lock())
    with lock:
        with _guard:
            if key in _built:
                return cast("T", _built[key])
        try:
            found = make()
            with _guard:
                _built[key] = found
                while len(_built) > KEPT_BUILT:
                    _built.popitem(last=False)
        finally:
            with _guard:
                _locks.pop(key, None)
    return found


SHARED_BYTES = 4 * MEMORY_BYTES
"""Bytes of pictures that all image stores in memory may hold together: four full ones."""

_stores: OrderedDict[tuple[Any, ...], ImageStore] = OrderedDict()
"""Stores in memory by their settings, the one asked for last at the end. They are not dropped by number: a thread that
goes on needs the very store that holds its pictures."""
_alive: weakref.WeakValueDictionary[tuple[Any, ...], ImageStore] = weakref.WeakValueDictionary()
"""The same stores, and dropped ones that somebody still uses."""


def shared_store(images: ImagesConfig) -> ImageStore:
    """The image store of these settings, one a process."""
    # Only what makes the store: a thread's follow-up may be shown its pictures in another size (`view_pixels`).
    key = (images.folder, images.max_pixels, images.local_files)
    if images.folder is not None:
        return once(("store", json.dumps(key)), lambda: _store_on_disk(images))
    with _guard:
        store = _alive.get(key) or ImageStore(max_pixels=images.max_pixels, local_files=images.local_files)
        _alive[key] = _stores[key] = store
        _stores.move_to_end(key)
        _drop_stores()
    return store


def _drop_stores() -> None:
    """Drop empty stores beyond `KEPT_BUILT`, because nobody misses them, and others when all together are too large."""
    weights = {key: store.weight for key, store in list(_stores.items())[:-1]}
    held = sum(weights.values())
    for key, weight in weights.items():
        if held > SHARED_BYTES or (weight == 0 and len(_stores) > KEPT_BUILT):
            held -= weight
            del _stores[key]


def _store_on_disk(images: ImagesConfig) -> ImageStore:
    store = ImageStore(images.folder, max_pixels=images.max_pixels, local_files=images.local_files)
    try:
        cast("Path", store.folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"images.folder={images.folder!r}: cannot be made ({error.strerror}); give a folder you may write to."
        ) from error
    return store
