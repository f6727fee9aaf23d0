"""Checkpointers from an address, compressed, with one-line errors."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from lensgraph.agent.errors import UserError
from lensgraph.agent.savers import Compressed, saver

POSTGRES = os.environ.get("LENSGRAPH_TEST_POSTGRES", "")


def test_what_is_compressed_comes_back_and_what_was_not_is_still_read() -> None:
    plain = JsonPlusSerializer()
    small = Compressed(plain)
    for value in ({"text": "again and " * 500}, {"n": 1}, None, b"\0" * 3, [["a", 1.5]]):
        assert small.loads_typed(small.dumps_typed(value)) == value
        assert small.loads_typed(plain.dumps_typed(value)) == value
    assert len(small.dumps_typed({"text": "again and " * 500})[1]) < 200


@pytest.mark.parametrize(
    "address",
    [
        "memory",
        "sqlite:///{folder}/threads.db",
        pytest.param(
            POSTGRES,
            marks=pytest.mark.skipif(not POSTGRES, reason="LENSGRAPH_TEST_POSTGRES holds no address of a database"),
        ),
    ],
)
async def test_a_checkpoint_is_found_again(tmp_path: Path, address: str) -> None:
    if address.startswith("sqlite"):
        pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    config: Any = {"configurable": {"thread_id": "saver-test", "checkpoint_ns": ""}}
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": {"text": "again and " * 500},
        "channel_versions": {"text": "1"},
    }
    async with saver(address.format(folder=tmp_path)) as made:
        await made.adelete_thread("saver-test")
        await made.aput(config, checkpoint, {"source": "input", "step": -1}, {"text": "1"})
        found = await made.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"text": "again and " * 500}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("threads.db", "'threads.db' is no address of threads; give memory, sqlite:///FILE or postgresql://..."),
        ("sqlite:///", "is no address of threads"),
        ("mysql://me:secret@host/x", "is no address of threads"),
        ("sqlite:////no/such/folder/threads.db", "there is no folder /no/such/folder; make it first"),
    ],
)
async def test_a_wrong_address_is_one_line(address: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        async with saver(address):
            pass
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"This is a letter and no database.\n" * 100, None])
async def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="needs lensgraph[threads]")
    path = tmp_path / "letter.txt"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        async with saver(f"sqlite:///{path}"):
            pass
    assert str(caught.value).startswith(f"{path}: no database of threads (")
    assert str(caught.value).endswith("; give another file, or remove this one") and "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["sqlite:///threads.db", "postgresql://127.0.0.1/x"])
async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith(("langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres")):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install '\.\[threads\]'"):
        async with saver(address):
            pass


async def test_a_database_that_is_down_is_one_line_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("langgraph.checkpoint.postgres", reason="needs lensgraph[threads]")
    with pytest.raises(UserError) as caught:
        async with saver("postgresql://me:hunter2@127.0.0.1:9/threads"):
            pass
    assert caplog.text == ""  # a pool would log every try
    assert "no PostgreSQL at postgresql://***@127.0.0.1:9/threads" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
