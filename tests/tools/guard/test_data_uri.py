"""Pictures written as text are read in the spellings that clients send, and refused in one line otherwise."""

import base64
import io
from urllib.parse import quote

import pytest
from PIL import Image

from lensgraph.tools import guard
from lensgraph.tools.guard import Refused, data_uri


def png() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 90).save(buffer, "PNG")  # noise, so that its base64 holds + and /
    return buffer.getvalue()


DATA = png()
BASE64 = base64.b64encode(DATA).decode()
LINES = base64.encodebytes(DATA).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:image/png;base64,{BASE64}",
        f"data:image/png;BASE64,{BASE64}",
        f" data:image/png;base64,{BASE64}\n",
        f"data:;base64,{BASE64}",
        f"data:image/png;charset=utf-8;base64,{BASE64}",
        f"data:image/png;base64,{LINES}",
        "data:image/png;base64," + LINES.replace("\n", "\r\n"),
        "data:image/png;base64," + quote(BASE64, safe=""),
        "data:image/png;base64," + quote(LINES),
        "data:image/png;base64," + base64.urlsafe_b64encode(DATA).decode(),
        "data:image/png;base64," + BASE64.rstrip("="),
        BASE64,
        LINES,
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
    ],
)
def test_every_spelling_gives_the_same_bytes(uri: str) -> None:
    assert data_uri.is_inline(uri)
    assert guard.image_bytes(uri) == (DATA, "data URI")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64,ä", "'data:image/png;base64,ä' holds broken base64 ('ä' is no character of it)"),
        ("data:image/png;base64,@@@", "holds broken base64"),
        ("data:image/png;base64,\udcff", "holds broken base64"),
        ("data:image/png;base64,AAAAA", "holds broken base64 (the end is missing)"),
        ("data:image/png;base64,AA==AA", "holds broken base64"),
        ("data:image/png;base64,%C3%A4", "holds broken base64"),
        ("data:image/png,abc", "'data:image/png' is not base64"),
        ("data:", "'data:' is not base64"),
        ("data:image/png;base64," + "A" * 400, "more than 100 bytes"),
        ("data:image/png;base64," + "A" * 200, "more than 100 bytes"),
    ],
)
def test_a_broken_one_is_refused_in_one_line_that_names_it(uri: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        data_uri.decode(uri, 100)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["photo.png", "/9j/photo.jpg", "iVBORw0KGgo", "https://a.example/data:", "0" * 64, "/9j/" + "a" * 80 + ".jpg"],
)
def test_a_path_an_address_and_an_id_are_no_picture_themselves(text: str) -> None:
    assert not data_uri.is_inline(text)
