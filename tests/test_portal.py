"""The sync client and its event loop: whose thread runs it, and what an interrupt leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from diptych import ImageClient
from diptych.errors import Cancelled, ConfigurationError
from diptych.events import Preview
from diptych.portal import Portal
from diptych.testing.peers import OpenAIPeer, faults

KEY = "sk-of-the-portal-tests"


def painter(peer: OpenAIPeer) -> ImageClient:
    return ImageClient("openai/gpt-image-2", api_key=KEY, base_url=peer.base_url)


@pytest.fixture
def portal():
    made = Portal()
    made.acquire()
    yield made
    made.release()


async def which_thread() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def test_a_lone_caller_runs_the_loop_itself_and_starts_no_thread(portal):
    threads = threading.active_count()
    assert portal.call(which_thread()) == threading.get_ident()
    assert threading.active_count() == threads


def test_what_is_left_goes_on_while_the_caller_does_other_things(portal):
    done = threading.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    async def submit() -> asyncio.Task[None]:
        return asyncio.ensure_future(work())

    task = portal.call(submit())
    assert done.wait(20)
    assert portal.call(asyncio.wait_for(task, 20)) is None


def test_callers_share_the_loop_of_whoever_was_first(portal):
    started, release = threading.Event(), threading.Event()

    async def first() -> int:
        started.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return threading.get_ident()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.call, first())
        assert started.wait(20)
        second = portal.call(which_thread())
        release.set()
        assert second == waiting.result(20)


def test_many_threads_at_once_lose_nothing(portal):
    async def echo(value: int) -> int:
        await asyncio.sleep(0)
        return value

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda value: portal.call(echo(value)), range(400))) == [*range(400)]


def test_it_works_where_a_loop_already_runs(portal):
    async def notebook() -> int:
        return int(portal.call(which_thread()))

    assert asyncio.run(notebook()) != threading.get_ident()


def test_a_call_from_within_the_loop_is_refused(portal):
    async def again() -> None:
        portal.call(which_thread())

    with pytest.raises(RuntimeError, match="its own loop"):
        portal.call(again())


def test_closing_ends_the_calls_of_other_threads():
    portal, started = Portal(), threading.Event()
    portal.acquire()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.call, forever())
        assert started.wait(20)
        portal.release()
        with pytest.raises(Cancelled, match="closed meanwhile"):
            waiting.result(20)
    with pytest.raises(ConfigurationError, match="the client is closed"):
        portal.call(forever())


def test_an_exit_asked_for_on_the_loop_reaches_the_caller(portal):
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        portal.call(leave())
    assert portal.call(which_thread()) == threading.get_ident()


# Interrupts


posix = pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is no signal there")


def interrupting(started: threading.Event) -> threading.Thread:
    """Interrupts the main thread once `started` is set and it has had time to wait."""

    def press() -> None:
        started.wait(20)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=press)
    person.start()
    return person


@posix
@pytest.mark.parametrize("visiting", [False, True], ids=["own thread", "other thread"])
def test_an_interrupt_waits_until_the_call_has_unwound(portal, visiting):
    started, unwound = threading.Event(), []

    async def work() -> None:
        try:
            started.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            unwound.append(True)

    def press() -> None:
        with pytest.raises(KeyboardInterrupt):
            portal.call(work())

    async def notebook() -> None:
        press()

    person = interrupting(started)
    with closing(asyncio.new_event_loop()) as kernel:  # asyncio.run has a handler of its own
        kernel.run_until_complete(notebook()) if visiting else press()
    person.join()
    assert unwound == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert portal.call(which_thread()) is not None


@posix
def test_a_second_interrupt_does_not_wait(portal):
    started, unwound = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            started.set()
            await asyncio.sleep(60)
        finally:
            started.set()
            await asyncio.sleep(1)
            unwound.set()

    def press() -> None:
        started.wait(20)
        time.sleep(0.2)
        started.clear()
        os.kill(os.getpid(), signal.SIGINT)
        started.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=press)
    person.start()
    with pytest.raises(KeyboardInterrupt):
        portal.call(work())
    person.join()
    assert not unwound.is_set()
    assert unwound.wait(20)  # it goes on by itself


@posix
def test_a_handler_of_the_applications_own_is_left_alone(portal):
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        assert portal.call(which_thread()) != threading.get_ident()
    finally:
        signal.signal(signal.SIGINT, before)


@posix
def test_an_interrupted_stream_raises_the_interrupt_and_nothing_else():
    with OpenAIPeer(key=KEY) as peer, painter(peer) as client:
        peer.fault(faults.silence("middle"), times=1)
        shown = threading.Event()

        def watch() -> None:
            for event in client.stream_generate("a fox", previews=2):
                if isinstance(event, Preview):
                    shown.set()

        person = interrupting(shown)
        with pytest.raises(KeyboardInterrupt) as raised:
            watch()
        person.join()
        assert raised.value.__context__ is None
        assert client.generate("a fox").images


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_its_own_loop_and_leaves_the_parents_alone():
    with OpenAIPeer(key=KEY) as peer, painter(peer) as client:
        client.generate("a fox")
        child = os.fork()
        if not child:
            try:
                done = len(client.generate("a fox in a child").images)
                client.close()
            except BaseException:
                done = 0
            os._exit(0 if done == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.generate("a fox again").images


def test_a_script_that_closes_nothing_ends(tmp_path):
    with OpenAIPeer(key=KEY) as peer:
        script = f"""
            from diptych import ImageClient
            client = ImageClient("openai/gpt-image-2", api_key={KEY!r}, base_url={peer.base_url!r})
            job = client.submit("a fox")
            print(len(client.generate("a fox").images), job.status() != "failed")
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("1 True\n", "", 0)


@pytest.mark.parametrize("left", [0, 0.0002, 0.0005, 0.001, 0.002])
def test_closing_at_the_moment_at_which_the_last_work_ends(left):
    async def submit() -> None:
        task = asyncio.ensure_future(asyncio.sleep(left))
        task.add_done_callback(ended.append)

    for turn in range(100):
        ended: list[object] = []
        portal = Portal()
        portal.acquire()
        portal.call(submit())
        time.sleep(left * turn / 50)
        portal.release()
        assert ended
