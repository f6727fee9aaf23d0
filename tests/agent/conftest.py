"""Settings and pictures for the agent's tests."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from agent import context

SETTINGS = {
    "policy": {
        "kind": "agent.policy.scripted:ScriptedPolicy",
        "options": {"turns": ["<img_search><img></img_search>", "<answer>1987</answer>"]},
    },
    "tools": {kind: {"use": f"agent.testing:Fixed{name}"} for kind, name in (
        ("text_search", "Text"), ("image_search", "Image"), ("locate", "Locator"),
    )},
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Path]:
    """A YAML file with a scripted policy (whole-picture search, then an answer) and fixed tools."""
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    yield path
    context._built.clear()  # a fixed tool remembers what it was asked: the next test gets its own


Encode = Callable[..., bytes]


@pytest.fixture
def encoded() -> Encode:
    """Encodes a Pillow image: `encoded(image, "PNG", ...)`."""

    def encode(image: Image.Image, form: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def bomb() -> bytes:
    """A 30,000 x 30,000 PNG: a true header and no pixels, so that only a decoder that trusts it is hurt."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    start = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", start) + chunk(b"IEND", b"")
