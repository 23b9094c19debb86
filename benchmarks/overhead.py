"""What diptych adds to a call, beside the vendor's own SDK, in one run against one loopback peer.

    python benchmarks/overhead.py                 # diptych and openai
    python benchmarks/overhead.py --rivals        # and litellm and pydantic-ai, each in a venv of its own
    python benchmarks/overhead.py --write         # keep the table in benchmarks/results/

The peer is a process of its own. Latencies are medians of calls that alternate between the two
clients in one process; CPU is that of the client's process, all threads; memory is the peak of a
process that did nothing else. Every figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

KEY = "sk-benchmark"
MODEL = "gpt-image-2"
PROMPT = "a watercolor of a fox reading a book"
RIVALS = {"litellm": "litellm", "pydantic-ai": "pydantic-ai-slim[openai]"}


def png(side: int) -> bytes:
    """A PNG of noise, which does not compress: about 3 * side**2 bytes."""
    noise = random.Random(side)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 0))
        + chunk(b"IEND", b"")
    )


def serve(side: int, delay: float) -> None:
    """The peer's process: print the address, then serve until standard input closes."""
    from diptych.testing.peers import OpenAIPeer

    with OpenAIPeer(key=KEY, image=png(side), delay=delay, record=False) as peer:
        print(peer.base_url, flush=True)
        sys.stdin.read()


# The clients. Each returns decoded picture bytes.

Call = Callable[[], bytes]
AsyncCall = Callable[[], Awaitable[bytes]]


def sync_client(name: str, url: str) -> Call:
    if name == "diptych":
        from diptych import ImageClient

        client = ImageClient(f"openai/{MODEL}", api_key=KEY, base_url=url)
        return lambda: client.generate(PROMPT).image.bytes
    from openai import OpenAI

    vendor = OpenAI(api_key=KEY, base_url=url, max_retries=0)

    def call() -> bytes:
        answer = vendor.images.generate(model=MODEL, prompt=PROMPT)
        assert answer.data is not None
        return base64.b64decode(answer.data[0].b64_json or "")

    return call


def async_client(name: str, url: str) -> AsyncCall:
    if name == "diptych":
        from diptych import AsyncImageClient

        client = AsyncImageClient(f"openai/{MODEL}", api_key=KEY, base_url=url)

        async def ours() -> bytes:
            return (await client.generate(PROMPT)).image.bytes

        return ours
    if name == "litellm":
        import litellm

        async def theirs() -> bytes:
            answer = await litellm.aimage_generation(
                model=f"openai/{MODEL}", prompt=PROMPT, api_key=KEY, api_base=url
            )
            return base64.b64decode(answer.data[0].b64_json)

        return theirs
    if name == "pydantic-ai":
        from pydantic_ai.images import ImageGenerator
        from pydantic_ai.images.openai import OpenAIImageGenerationModel
        from pydantic_ai.providers.openai import OpenAIProvider

        provider = OpenAIProvider(api_key=KEY, base_url=url)
        generator = ImageGenerator(OpenAIImageGenerationModel(MODEL, provider=provider))

        async def generated() -> bytes:
            return bytes((await generator.generate(PROMPT)).images[0].content.data)

        return generated
    from openai import AsyncOpenAI

    vendor = AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)

    async def call() -> bytes:
        answer = await vendor.images.generate(model=MODEL, prompt=PROMPT)
        assert answer.data is not None
        return base64.b64decode(answer.data[0].b64_json or "")

    return call


# The cases. Each runs in a fresh process and returns milliseconds, calls a second or mebibytes.


def case_sync(names: list[str], url: str, calls: int) -> dict[str, float]:
    clients = {name: sync_client(name, url) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(calls + 20):
        for name, call in clients.items():
            began = time.perf_counter()
            call()
            if turn >= 20:
                taken[name].append(time.perf_counter() - began)
    return {name: 1e3 * statistics.median(times) for name, times in taken.items()}


def case_async(names: list[str], url: str, calls: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        clients = {name: async_client(name, url) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(calls + 20):
            for name, call in clients.items():
                began = time.perf_counter()
                await call()
                if turn >= 20:
                    taken[name].append(time.perf_counter() - began)
        return {name: 1e3 * statistics.median(times) for name, times in taken.items()}

    return asyncio.run(main())


def case_cpu(names: list[str], url: str, calls: int) -> dict[str, float]:
    """CPU milliseconds a call, in alternating blocks."""

    async def main() -> dict[str, float]:
        clients = {name: async_client(name, url) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(calls + 3):
            for name, call in clients.items():
                began = time.process_time()
                await call()
                if turn >= 3:
                    taken[name].append(time.process_time() - began)
        return {name: 1e3 * statistics.median(times) for name, times in taken.items()}

    return asyncio.run(main())


def case_flight(names: list[str], url: str, calls: int) -> dict[str, float]:
    """Calls a second with 32 in flight, and the peak memory of the process."""
    (name,) = names

    async def main() -> dict[str, float]:
        call, gate = async_client(name, url), asyncio.Semaphore(32)

        async def one() -> int:
            async with gate:
                return len(await call())

        await one()
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(calls)))
        rate = calls / (time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {f"{name} rate": rate, f"{name} peak": peak}

    return asyncio.run(main())


def case_plan(names: list[str], url: str, calls: int) -> dict[str, float]:
    from diptych import Image, ImageClient

    picture = Image.of(png(64))
    with ImageClient(f"openai/{MODEL}", api_key=KEY, base_url=url) as client:
        plans: dict[str, Callable[[], object]] = {
            "plan": lambda: client.plan(PROMPT, size="1024x1024", quality="low"),
            "plan_edit": lambda: client.plan_edit(picture, "make it a raccoon"),
        }
        figures = {}
        for name, plan in plans.items():
            taken = []
            for _ in range(calls):
                began = time.perf_counter()
                plan()
                taken.append(time.perf_counter() - began)
            figures[name] = 1e3 * statistics.median(taken)
        return figures


def case_import(names: list[str], url: str, calls: int) -> dict[str, float]:
    """CPU milliseconds over a bare interpreter: least of `calls` fresh processes each."""

    def least(*arguments: str) -> float:
        times = []
        for _ in range(calls):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return 1e3 * min(times)

    bare = least("-c", "pass")
    return {
        "import diptych": least("-c", "import diptych") - bare,
        "import openai": least("-c", "import openai") - bare,
        "diptych --help": least("-m", "diptych", "--help"),
    }


CASES = {
    "sync": case_sync,
    "async": case_async,
    "cpu": case_cpu,
    "flight": case_flight,
    "plan": case_plan,
    "import": case_import,
}


def measured(
    case: str,
    names: list[str],
    url: str,
    calls: int,
    *,
    fast: bool = True,
    python: str = sys.executable,
) -> dict[str, float]:
    """Run one case in a fresh process."""
    hide = "" if fast else "import sys; sys.modules['pybase64'] = None\n"
    code = f"{hide}import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    command = [python, "-c", code, "--case", case, "--clients", *names, "--url", url]
    done = subprocess.run(
        [*command, "--calls", str(calls)], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Peer:
    """The peer in a process of its own."""

    def __init__(self, side: int, delay: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(side), "--delay", str(delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")


def rival_python(name: str) -> str | None:
    """A venv with the rival in it, or None where it does not install."""
    home = Path(tempfile.gettempdir()) / f"diptych-bench-{name}"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        installed = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", RIVALS[name]], capture_output=True
        )
        if installed.returncode != 0:
            return None
    return str(python)


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def report(rounds: int, rivals: bool) -> str:
    both = ["openai", "diptych"]
    lines = ["| what | openai | diptych | difference or ratio | bar |", "|---|---|---|---|---|"]

    def row(what: str, theirs: float, ours: float, unit: str, verdict: str, bar: str) -> None:
        lines.append(f"| {what} | {theirs:.2f} {unit} | {ours:.2f} {unit} | {verdict} | {bar} |")

    def differ(what: str, figures: dict[str, float], bar: float) -> None:
        added = figures["diptych"] - figures["openai"]
        row(what, figures["openai"], figures["diptych"], "ms", f"{added:+.3f} ms", f"<= {bar} ms")

    with Peer(side=16) as url:
        once = range(rounds)
        differ(
            "small call, sync, p50", median([measured("sync", both, url, 400) for _ in once]), 0.25
        )
        differ(
            "small call, async, p50",
            median([measured("async", both, url, 400) for _ in once]),
            0.35,
        )
        plans = median([measured("plan", [], url, 2000) for _ in once])
        others = {}
        for name in RIVALS if rivals else ():
            python = rival_python(name)
            others[name] = (
                "does not install"
                if python is None
                else f"{median([measured('async', [name], url, 300, python=python) for _ in once])[name]:.2f} ms"
            )
    with Peer(side=836) as url:
        for fast, bar in ((False, 1.1), (True, 0.7)):
            cpu = median([measured("cpu", both, url, 60, fast=fast) for _ in once])
            ratio = cpu["diptych"] / cpu["openai"]
            label = "with [fast]" if fast else "without [fast]"
            row(
                f"2 MB PNG, CPU, {label}",
                cpu["openai"],
                cpu["diptych"],
                "ms",
                f"{ratio:.2f}",
                f"<= {bar}",
            )
        flown = median(
            [
                measured("flight", ["openai"], url, 192) | measured("flight", ["diptych"], url, 192)
                for _ in once
            ]
        )
    rate, peak = (flown[f"diptych {each}"] / flown[f"openai {each}"] for each in ("rate", "peak"))
    row(
        "2 MB PNG, 32 in flight, rate",
        flown["openai rate"],
        flown["diptych rate"],
        "/s",
        f"{rate:.2f}",
        ">= 1",
    )
    row(
        "the same, peak memory",
        flown["openai peak"],
        flown["diptych peak"],
        "MiB",
        f"{peak:.2f}",
        "<= 1.2",
    )
    for name, took in plans.items():
        lines.append(f"| {name}() | - | {took:.3f} ms | - | <= 0.2 ms |")
    starts = measured("import", [], "", 10)
    lines.append(
        f"| import, CPU over bare Python | {starts['import openai']:.0f} ms | {starts['import diptych']:.1f} ms | - | <= 15 ms |"
    )
    lines.append(f"| diptych --help, CPU | - | {starts['diptych --help']:.0f} ms | - | <= 200 ms |")
    lines += [
        f"| small call, async, p50: {name} | - | {took} | - | - |" for name, took in others.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--clients", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=0, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.serve:
        serve(options.serve, options.delay)
        return
    if options.case:
        print(json.dumps(CASES[options.case](options.clients, options.url, options.calls)))
        return
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = f"{date.today()}, {where}, {options.rounds} rounds\n\n{report(options.rounds, options.rivals)}\n"
    print(text)
    if options.write:
        target = Path(__file__).parent / "results" / "overhead.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"# overhead.py\n\n{text}")


if __name__ == "__main__":
    main()
