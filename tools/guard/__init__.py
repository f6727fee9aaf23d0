"""The guard: every byte from outside passes here before anything else reads it.

`headers` reads what a picture will cost, `check_pictures` decodes it under caps, `isolated` decodes in a process of its own,
`data_uri` reads a picture that is written as text, `read_files` reads a file of this machine, `fetching` fetches an address,
`addresses` decides which hosts may be connected to, `transport` connects only to a checked address, `bodies` unpacks under a
cap and tells the kind of a body from its own bytes.

This is our own, because the libraries trust what they are told. An HTTP client connects to whatever a name or a redirect
resolves to at that moment, inner networks included, and Pillow takes a picture's size from its header, while tiles, scans or
frames behind it decide what decoding costs. HTTP, decompression and decoding stay the libraries'; the guard decides what
reaches them. `python tests/checks guard` tries it against hostile addresses, servers, pictures and documents.
"""

from lensgraph.tools.guard.addresses import PUBLIC_WEB, FetchPolicy, Refused, address_allowed, resolve
from lensgraph.tools.guard.bodies import PAGE, PICTURE, Kind, sniff
from lensgraph.tools.guard.check_pictures import (
    FORMATS,
    MAX_PIXELS,
    MAX_STRETCH,
    check_size,
    decode,
    first_picture,
    image_bytes,
    load_image,
    open_image,
    to_rgb,
)
from lensgraph.tools.guard.data_uri import is_inline
from lensgraph.tools.guard.fetching import MAX_FETCH_BYTES, MAX_REDIRECTS, USER_AGENT, Fetched, fetch, get
from lensgraph.tools.guard.headers import FirstPicture
from lensgraph.tools.guard.headers import read as read_header
from lensgraph.tools.guard.read_files import MAX_FILE_BYTES, READ_SECONDS, in_time, read_file

__all__ = [
    "FORMATS", "MAX_FETCH_BYTES", "MAX_FILE_BYTES", "MAX_PIXELS", "MAX_REDIRECTS", "MAX_STRETCH", "PAGE", "PICTURE",
    "PUBLIC_WEB", "READ_SECONDS", "USER_AGENT", "FetchPolicy", "Fetched", "FirstPicture", "Kind", "Refused",
    "address_allowed", "check_size", "decode", "fetch", "first_picture", "get", "image_bytes", "in_time", "is_inline",
    "load_image", "open_image", "read_file", "read_header", "resolve", "sniff", "to_rgb",
]  # fmt: skip
