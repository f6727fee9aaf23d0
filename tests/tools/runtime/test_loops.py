"""A loop made here behaves as asyncio's own, and does not wait for threads that are late."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from lensgraph.tools.runtime import loops


def test_work_in_threads_comes_back_in_order_and_threads_are_used_again() -> None:
    async def work() -> tuple[list[int], int]:
        used: set[int] = set()

        def square(n: int) -> int:
            used.add(threading.get_ident())
            return n * n

        results = [await asyncio.to_thread(square, n) for n in range(20)]
        return results, len(used)

    assert loops.run(work()) == ([n * n for n in range(20)], 1)


def test_a_program_with_a_late_thread_ends_with_its_own_code() -> None:
    """A network at work in a thread that nobody waits for would abort Python's end."""
    code = (
        "import asyncio, sys, torch\n"
        "from lensgraph.tools.runtime import loops\n"
        "def work():\n"
        "    a = torch.rand(400, 400)\n"
        "    while True: a @ a\n"
        "async def main():\n"
        "    asyncio.get_running_loop().run_in_executor(None, work)\n"
        "    await asyncio.sleep(0.2)\n"
        "loops.run(main())\n"
        "print('done')\n"
        "sys.exit(loops.leave(3))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "done\n"), done.stderr


def test_many_at_once_share_a_bounded_number_of_threads() -> None:
    async def work() -> int:
        at_work, most, guard = 0, 0, threading.Lock()

        def step() -> None:
            nonlocal at_work, most
            with guard:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.005)
            with guard:
                at_work -= 1

        await asyncio.gather(*(asyncio.to_thread(step) for _ in range(4 * loops.MOST)))
        return most

    assert 1 < loops.run(work()) <= loops.MOST


def test_what_a_thread_raises_is_raised() -> None:
    async def work() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        loops.run(work())


def test_small_work_at_the_end_is_still_done_and_late_work_is_not_waited_for() -> None:
    done: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, lambda: done.append("small"))
        loop.run_in_executor(None, time.sleep, 30)

    started = time.monotonic()
    loops.run(work())
    assert time.monotonic() - started < 5
    assert done == ["small"]
