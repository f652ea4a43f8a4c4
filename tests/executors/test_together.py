"""Several coroutines without trio: side by side, cancelled together, shielded to their ends."""

import os
import signal
import threading

import pytest

from executors.together import Cancelled, Together
from executors.waiting import pause, readable, shielded, writable


def _ignored(number: int) -> None:
    raise AssertionError(number)


def test_waits_go_on_side_by_side() -> None:
    loop = Together(_ignored)
    order: list[object] = []

    async def writer(descriptor: int) -> None:
        await writable(descriptor)
        await pause(0.02)
        os.write(descriptor, b"x")

    async def main() -> str:
        reading, writing = os.pipe()
        loop.spawn(writer(writing))
        order.append(await readable(reading, 0.001))
        order.append(await readable(reading))
        await loop.end_others()
        os.close(reading)
        os.close(writing)
        return "done"

    assert loop.run(main()) == "done"
    assert order == [False, True]


def test_all_that_ended_is_rung_for() -> None:
    loop = Together(_ignored)
    ended: list[int] = []

    async def work(number: int) -> None:
        await pause(0.001 * (number % 3))
        ended.append(number)
        loop.ring()

    async def main() -> None:
        for number in range(20):
            loop.spawn(work(number))
        while len(ended) < 20:
            await loop.rung()
        await loop.end_others()

    loop.run(main())
    assert sorted(ended) == list(range(20))


def test_cancelled_work_tidies_up_and_is_waited_for() -> None:
    loop = Together(_ignored)
    steps: list[str] = []

    async def work() -> None:
        try:
            await pause(60)
        finally:
            with shielded():
                await pause(0.02)
            steps.append("shielded")
            try:
                await pause(60)
            except Cancelled:
                steps.append("cancelled again")

    async def shielded_work() -> None:
        with shielded():
            await pause(0.03)
        steps.append("left the shield")
        await pause(60)

    async def main() -> None:
        loop.spawn(work())
        loop.spawn(shielded_work())
        await pause(0.005)
        await loop.end_others()
        await pause(0.001)  # not cancelled itself

    loop.run(main())
    assert steps == ["shielded", "cancelled again", "left the shield"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_told_in_the_loop(number: signal.Signals) -> None:
    came: list[int] = []

    def signalled(which: int) -> None:
        came.append(which)
        loop.cancel()

    loop = Together(signalled)
    before = signal.getsignal(number)

    async def main() -> None:
        threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
        try:
            await loop.rung()
        except Cancelled:
            os.kill(os.getpid(), number)  # a second one while all ends
            loop.spawn(pause(0.02))
            await loop.end_others()

    loop.run(main())
    assert came[0] == number
    assert signal.getsignal(number) is before


def test_what_must_not_fail_ends_all() -> None:
    loop = Together(_ignored)

    async def wrong() -> None:
        await pause(0.001)
        raise ZeroDivisionError

    async def main() -> None:
        loop.spawn(wrong())
        loop.spawn(pause(60))
        try:
            await loop.rung()
            await pause(60)
        except Cancelled:
            await loop.end_others()

    with pytest.raises(ZeroDivisionError):
        loop.run(main())


def test_calls_of_threads_and_ticks() -> None:
    loop = Together(_ignored)
    seen: list[str] = []

    def call() -> None:
        seen.append("called")
        loop.ring()

    async def main() -> None:
        threading.Timer(0.01, loop.from_thread, (call,)).start()
        await loop.rung()
        loop.every(0.002, lambda: seen.append("tick"))
        await pause(0.03)
        await loop.end_others()

    loop.run(main())
    assert seen[0] == "called"
    assert seen.count("tick") >= 2
