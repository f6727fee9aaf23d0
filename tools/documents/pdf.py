"""The words of a PDF, under caps: a small file may unpack to gigabytes, or send its reader round in circles.

Invariant: whatever the file says, no stream is unpacked beyond `MAX_STREAM_BYTES`, no more than `MAX_UNPACKED_BYTES` and one
stream are held at a time, no page list is longer than `MAX_LISTED_PAGES`, and reading stops soon after `MAX_SECONDS`. Past a
cap the whole file is refused (`PdfOverLimit`), for half of a bomb is no document; only a long honest one is cut, at `MAX_PAGES`
or at the caller's count of characters.

pypdf has such caps of its own, per stream and for every reader of the process; they are lowered here for these calls only.
It has none for the sum over all streams and for the time; these are checked at every object that it takes out of the file and
at every step of a page.
"""

from __future__ import annotations

import io
import logging
import time
from typing import Any

import pypdf
from pypdf.errors import LimitReachedError
from pypdf.generic import EncodedStreamObject

from lensgraph.tools.safety.one_line import one_line

MAX_STREAM_BYTES = 16 * 1024 * 1024
"""Most that one stream of the file may unpack to. The words of a page are a few kilobytes, a drawn map some megabytes."""
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""Most that all streams that are read may unpack to."""
MAX_PAGES = 1_000
"""Pages beyond this are left out."""
MAX_LISTED_PAGES = 20_000
"""Most pages that a file may list; more are refused, because listing one page again and again costs its author nothing."""
MAX_PARSED = 1_000_000
"""Most words and numbers in one stream; each becomes an object in memory."""
MAX_DRAWN = 20_000
"""Most forms and pictures that the pages draw, those inside of others included: forms in forms multiply."""
MAX_SECONDS = 20.0
"""Longest time for one file. A step that is under way is ended by the caps above."""


class PdfOverLimit(ValueError):
    """The file exceeds a cap; the message names it in one line."""


class Locked(ValueError):
    """The file needs a password."""


def read(data: bytes, max_chars: int) -> tuple[str, list[str]]:
    """The title and the words of each page, no more pages than hold `max_chars`.

    Raises:
        PdfOverLimit: a cap was reached.
        Locked: it needs a password.
        Exception: whatever pypdf raises on a damaged file, which is almost anything.
    """
    # pypdf logs every oddity that it repairs, and only the text matters here.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    kinds = ("zlib", "lzw", "run_length", "brotli", "jbig2", "array_based_stream")
    caps: dict[str, Any] = {f"{kind}_maximum_output_length": MAX_STREAM_BYTES for kind in kinds}
    with pypdf.apply_configuration(
        **caps,
        stream_decoding_work_maximum_length=4 * MAX_STREAM_BYTES,
        stream_parsing_work_maximum_count=MAX_PARSED,
        page_tree_maximum_entries=MAX_LISTED_PAGES,
        xform_maximum_invocations_per_extraction=MAX_DRAWN,
    ):
        watch = _Watch()
        try:
            return _read(data, max_chars, watch)
        except LimitReachedError as error:
            raise PdfOverLimit(one_line(error, 150)) from error
        finally:
            watch.check()  # pypdf repairs what it can, also after an exception of ours


def _read(data: bytes, max_chars: int, watch: _Watch) -> tuple[str, list[str]]:
    reader = _WatchedPdf(io.BytesIO(data), watch)
    if reader.is_encrypted and not reader.decrypt(""):
        raise Locked("it is encrypted; save it without a password")
    pages: list[str] = []
    length = 0

    def step(operator: bytes, *_: Any) -> None:
        if operator == b"Do":  # what it draws is unpacked now, and may draw in turn
            watch.draws()
        else:
            watch.check_time()

    for page in reader.pages[:MAX_PAGES]:
        watch.check()
        pages.append(page.extract_text(visitor_operand_before=step) or "")
        length += len(pages[-1])
        if length > max_chars:
            break
    title = (reader.metadata.title or "") if reader.metadata else ""
    return str(title), pages


class _Watch:
    """Counts time, unpacked bytes and drawn forms while a file is read, and ends the reading at a cap."""

    def __init__(self) -> None:
        self._until = time.monotonic() + MAX_SECONDS
        self._unpacked = 0
        self._drawn = 0
        self._over: PdfOverLimit | None = None
        """The cap that was reached first."""
        self._packed: list[EncodedStreamObject] = []
        """Streams that were met and are not unpacked yet."""

    def met(self, found: Any) -> None:
        """An object was taken out of the file."""
        if isinstance(found, EncodedStreamObject):
            self.check()
            self._packed.append(found)
        else:
            self.check_time()

    def draws(self) -> None:
        """A page, or a form on it, draws a form or a picture."""
        self._drawn += 1
        if self._drawn > MAX_DRAWN:
            self._end(f"its pages draw more than {MAX_DRAWN:,} forms")
        self.check()

    def check(self) -> None:
        """Raises `PdfOverLimit` once a cap is reached, and at every later call: pypdf goes on after many an exception."""
        still = []
        for stream in self._packed:
            unpacked = stream.decoded_self
            if unpacked is None:
                still.append(stream)
            else:
                self._unpacked += len(unpacked.get_data())
        self._packed = still
        if self._unpacked > MAX_UNPACKED_BYTES:
            self._end(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        self.check_time()

    def check_time(self) -> None:
        """The same for the time alone, which is quickly looked up."""
        if time.monotonic() > self._until:
            self._end(f"reading it takes more than {MAX_SECONDS:g} s")
        if self._over is not None:
            raise self._over

    def _end(self, why: str) -> None:
        self._over = self._over or PdfOverLimit(why)


class _WatchedPdf(pypdf.PdfReader):
    """A reader whose objects are watched."""

    def __init__(self, stream: io.BytesIO, watch: _Watch) -> None:
        self._watch = watch  # the constructor already reads objects
        super().__init__(stream)

    def cache_indirect_object(self, generation: int, idnum: int, obj: Any) -> Any:
        """Every object of the file comes by here once."""
        self._watch.met(obj)
        return super().cache_indirect_object(generation, idnum, obj)
