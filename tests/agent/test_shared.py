"""What a process builds once and shares: bounded, built once for all who ask at the same time, and again after a failure."""

import threading
import time
from collections.abc import Iterator

import pytest

from agent import context


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(context, "KEPT_BUILT", 4)
    context._built.clear()
    yield
    context._built.clear()


def test_what_was_not_asked_for_of_late_is_forgotten() -> None:
    in_use = context._once(("test", "in use"), object)
    for n in range(50):
        context._once(("test", str(n)), object)
        assert context._once(("test", "in use"), object) is in_use
    assert len(context._built) == 4
    assert context._locks == {}


def test_those_who_ask_at_the_same_time_share_one() -> None:
    made, found = [], []

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    threads = [threading.Thread(target=lambda: found.append(context._once(("test", "slow"), make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == made * 8


def test_a_failure_is_not_kept() -> None:
    def fail() -> object:
        raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        context._once(("test", "flaky"), fail)
    assert context._locks == {}
    assert context._once(("test", "flaky"), lambda: "built") == "built"
