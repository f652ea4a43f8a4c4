"""Waiting without trio: the same waits, blocking, and cut short by a signal once."""

import os
import signal

import pytest
import trio

from executors.waiting import Interrupted, meanwhile, pause, readable, run_alone, shielded


async def _exchange() -> tuple[bool, bool]:
    reading, writing = os.pipe()
    try:
        early = await readable(reading, 0.01)
        os.write(writing, b"x")
        return early, await readable(reading)
    finally:
        os.close(reading)
        os.close(writing)


def test_waits_are_the_same_with_and_without_trio() -> None:
    assert run_alone(_exchange()) == trio.run(_exchange) == (False, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait_once(number: signal.Signals) -> None:
    steps = []

    async def main() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            await pause(60)
        finally:
            os.kill(os.getpid(), number)
            with shielded():
                await pause(0.01)
            await pause(0.01)
            steps.append("tidied")

    before = signal.getsignal(number)
    alarm = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
    try:
        with pytest.raises(Interrupted):
            run_alone(main())
    finally:
        signal.signal(signal.SIGALRM, alarm)
    assert steps == ["tidied"]
    assert signal.getsignal(number) is before


def test_a_signal_between_waits_is_told_at_the_next() -> None:
    reached = []

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        with shielded():
            await pause(0.01)
        reached.append("shielded")
        await pause(60)

    with pytest.raises(Interrupted):
        run_alone(main())
    assert reached == ["shielded"]


def test_chores_are_done_while_there_is_nothing_else_to_do() -> None:
    reading, writing = os.pipe()
    done: list[int] = []

    def first() -> bool:
        done.append(1)
        return done.count(1) < 3

    def second() -> bool:
        done.append(2)
        os.write(writing, b"x")
        return True

    async def main() -> None:
        meanwhile(first)
        meanwhile(second)
        await readable(reading)
        assert done == [1, 1, 1, 2], "one goes on before the next, until there is something to do"
        await readable(reading)
        assert done == [1, 1, 1, 2], "and not before that is done"
        await pause(0)
        assert done == [1, 1, 1, 2], "and not longer than asked for"

    try:
        run_alone(main())
    finally:
        os.close(reading)
        os.close(writing)
