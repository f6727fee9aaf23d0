"""Little work stays on one thread, and afterwards everything is as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from lensgraph.tools.runtime import threads


@pytest.fixture
def count() -> Iterator[Callable[[], int]]:
    """The number of OpenBLAS's threads, which is three to begin with."""
    calls = threads._calls()
    if calls is None:
        pytest.skip("numpy was built without OpenBLAS")
    get, put = calls
    before = get()
    put(3)
    yield get
    put(before)


def test_it_is_one_inside_and_as_before_afterwards(count: Callable[[], int]) -> None:
    with threads.one_thread():
        assert count() == 1
        with threads.one_thread(), threads.one_thread(when=False):
            assert count() == 1
        assert count() == 1
    assert count() == 3


def test_when_it_is_not_wanted_nothing_changes(count: Callable[[], int]) -> None:
    with threads.one_thread(when=False):
        assert count() == 3


def test_an_error_inside_gives_the_threads_back(count: Callable[[], int]) -> None:
    with pytest.raises(ZeroDivisionError), threads.one_thread():
        _ = 1 / 0
    assert count() == 3


def test_who_comes_while_another_is_inside_does_not_leave_one_thread_behind(count: Callable[[], int]) -> None:
    """A enters, B enters, A leaves, B leaves: the order in which saving and restoring a number by hand goes wrong."""
    entered, left, seen = threading.Event(), threading.Event(), []

    def second() -> None:
        with threads.one_thread():
            entered.set()
            left.wait(10)
            seen.append(count())

    other = threading.Thread(target=second)
    with threads.one_thread():
        other.start()
        assert entered.wait(10)
    left.set()
    other.join()
    assert seen == [1]
    assert count() == 3


def test_without_openblas_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_calls", lambda: None)
    with threads.one_thread():
        done = True
    assert done
