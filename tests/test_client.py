"""The client through both plug-ins, over real sockets: jobs, budgets, batches, conversations."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageChops

from diptych import (
    AsyncImageClient,
    Budget,
    Completed,
    Image,
    ImageClient,
    Mask,
    ModelCard,
    Paradigm,
    Queued,
)
from diptych.engine import Run
from diptych.errors import (
    BudgetExceeded,
    Cancelled,
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    MissingCredentials,
    ProviderError,
    UnknownModel,
)
from diptych.events import Preview
from diptych.job import AsyncJob
from diptych.plan import Call, Plan
from diptych.provider import Handle, Provider, Settings
from diptych.request import Request
from diptych.testing.peers import FalPeer, OpenAIPeer, silence, status, stuck

FLUX, GPT = "fal/flux-pro/v1.1", "openai/gpt-image-2"


@pytest.fixture
def fal():
    with FalPeer() as peer:
        yield peer


@pytest.fixture
def openai():
    with OpenAIPeer() as peer:
        yield peer


def painter(peer, model=None, **settings):
    if isinstance(peer, FalPeer):
        return ImageClient(model or FLUX, api_key=peer.key, base_url=peer.origin, **settings)
    return ImageClient(model or GPT, api_key=peer.key, base_url=peer.base_url, **settings)


def noise(size=(256, 256)) -> Image:
    return Image.of(Pillow.effect_noise(size, 90).convert("RGB"))


# Law 3


@pytest.mark.parametrize("kind", ["openai", "fal"])
def test_what_was_protected_stays_bit_identical(kind, request):
    photo, mask = noise((1024, 1024)), Mask.box((200, 200, 600, 600), size=(1024, 1024))
    with painter(request.getfixturevalue(kind)) as client:
        result = client.edit(photo, "a red balloon", mask=mask)
    before, after = photo.pil().convert("RGB"), result.image.pil().convert("RGB")
    assert ImageChops.difference(before, after).getbbox() == (200, 200, 600, 600)
    assert result.outside_change.max > 0
    assert result.received[0] != result.image


def test_the_models_own_picture_is_given_when_asked_for(openai):
    photo, mask = noise((1024, 1024)), Mask.box((0, 0, 512, 512), size=(1024, 1024))
    with painter(openai) as client:
        result = client.edit(photo, "a balloon", mask=mask, preserve="model")
    assert result.images == result.received
    assert result.outside_change is None


def test_an_expanded_picture_keeps_its_pixels(openai):
    photo = noise((256, 192))
    with painter(openai) as client:
        result = client.edit(photo, "a wider view", expand=(64, 0, 0, 32))
    assert result.image.size == (320, 224)
    kept = result.image.pil().convert("RGB").crop((64, 0, 320, 192))
    assert ImageChops.difference(kept, photo.pil().convert("RGB")).getbbox() is None


# Law 2


def test_picture_k_has_seed_plus_k(fal):
    with painter(fal) as client:
        batch = client.generate("a fox", seed=40, n=3)
        alone = client.generate("a fox", seed=42)
    assert [image.seed for image in batch] == [40, 41, 42]
    assert batch[2] == alone.image
    assert fal.paid_posts == 4


# Law 4


def test_a_job_is_brought_home_by_another_process(fal):
    with painter(fal) as client:
        handle = client.submit("a fox").handle
    code = (
        "import sys; from diptych import ImageClient\n"
        f"client = ImageClient({FLUX!r}, api_key={fal.key!r}, base_url={fal.origin!r})\n"
        "print(client.resume(sys.argv[1]).result().image.size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, handle], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("(")
    assert fal.paid_posts == 1
    assert fal.key not in handle


def test_a_resumed_job_protects_the_same_pixels(fal):
    photo, mask = noise(), Mask.box((0, 0, 128, 128), size=(256, 256))
    with painter(fal) as client:
        handle = client.submit_edit(photo, "a balloon", mask=mask).handle
        with pytest.raises(InvalidInput, match="image= and mask="):
            client.resume(handle)
        with pytest.raises(InvalidInput, match="not the ones"):
            client.resume(handle, image=photo, mask=mask.inverted())
        result = client.resume(handle, image=photo, mask=mask).result()
        assert client.resume(handle, preserve="model").result().outside_change is None
    before, after = photo.pil().convert("RGB"), result.image.pil().convert("RGB")
    assert ImageChops.difference(before, after).getbbox() == (0, 0, 128, 128)


@pytest.mark.parametrize("handle", ["", "diptych1.", "diptych1.e30", "job-17", "diptych1.!!!"])
def test_what_is_no_handle_is_refused(fal, handle):
    with painter(fal) as client, pytest.raises(InvalidInput, match="not a job handle"):
        client.resume(handle)


def test_a_handle_of_another_provider_is_refused(fal, openai):
    with painter(fal) as client:
        handle = client.submit("a fox").handle
    with painter(openai) as client, pytest.raises(InvalidInput, match="fal's"):
        client.resume(handle)


def test_a_job_tells_its_events_to_every_listener(fal):
    with painter(fal) as client:
        job = client.submit("a fox")
        first, second = list(job.events()), list(job.events())
        assert job.status() == "completed"
        assert job.cancel() is False
    assert first == second
    assert isinstance(first[0], Queued)
    assert isinstance(first[-1], Completed)


def test_waiting_for_a_job_can_be_given_up_without_losing_it(fal):
    fal.fault(stuck())
    with painter(fal) as client:
        job = client.submit("a fox")
        with pytest.raises(DeadlineExceeded) as late:
            job.result(timeout=0.2)
        assert late.value.job == job.handle
        assert job.status() == "running"
        fal.clear()
        assert job.result().image.width > 0


def test_a_cancelled_job_says_so_and_tells_the_provider(fal):
    fal.fault(stuck())
    with painter(fal) as client:
        job = client.submit("a fox")
        assert job.cancel() is True
        assert job.status() == "cancelled"
        with pytest.raises(Cancelled):
            job.result()
    assert fal.count("cancel") == 1


class Quiet(Provider):
    """A provider that takes the job and then says nothing for a long time."""

    name = "quiet"

    def cards(self):
        return ()

    def card(self, model):
        return ModelCard(ref=f"quiet/{model}", paradigm=Paradigm.DIFFUSION)

    def plan(self, request, card, state):
        call = Call(operation="draw", method="POST", target="-", payload={})
        return Plan(model=card.ref, mode="generate", calls=(call,), request=request)

    async def run(self, call, context):
        await asyncio.sleep(0)
        context.accepted(Handle("quiet", "model", "job-1"))
        await asyncio.sleep(60)
        yield Queued()


def test_submitting_returns_when_the_job_is_taken_even_if_nothing_happens_then():
    async def submit():
        provider = Quiet(Settings())
        plan = provider.plan(Request(prompt="a fox"), provider.card("model"), None)
        run = Run(provider, plan, timeout=60, max_retries=0)
        job = AsyncJob(run, run.execute)
        await asyncio.wait_for(job.accepted(), 20)
        assert job.handle is not None
        assert await job.cancel()

    asyncio.run(submit())


def test_a_provider_without_jobs_has_no_handle(openai):
    with painter(openai) as client:
        job = client.submit("a fox")
        assert job.result().image.width > 0
        assert job.handle is None


def test_part_of_a_batch_is_not_lost_with_the_rest(fal):
    fal.fault(status(422), on="submit", times=1)
    with painter(fal) as client, pytest.raises(ProviderError) as failed:
        client.generate("a fox", seed=1, n=3)
    assert len(failed.value.partial.images) == 2
    assert failed.value.partial.cost.amount is not None
    assert failed.value.handle is not None


# Law 5


def test_a_plan_is_free_and_runs_what_it_shows(fal):
    with painter(fal) as client:
        plan = client.plan("a fox", seed=3, n=2)
        assert fal.requests == []
        plan.run()
    sent = [request.json for request in fal.requests if request.kind == "submit"]
    assert sorted(sent, key=str) == sorted((dict(call.payload) for call in plan.calls), key=str)


def test_plans_and_results_hold_no_key(fal):
    with painter(fal) as client:
        result = client.generate("a fox")
        texts = (str(result.plan), json.dumps(result.plan.to_dict()), repr(result), repr(client))
    assert not any(fal.key in text for text in texts)


def test_a_budget_stops_before_the_call_that_might_not_fit(fal):
    budget = Budget(Decimal("0.10"))
    with painter(fal, budget=budget) as client:
        client.generate("a fox", n=2, seed=1)
        with pytest.raises(BudgetExceeded):
            client.generate("a fox")
    assert fal.paid_posts == 2
    assert budget.spent == Decimal("0.08")


def test_what_was_refused_is_not_counted_as_spent(fal):
    budget = Budget(Decimal("0.10"))
    fal.fault(status(422), on="submit", times=1)
    with painter(fal, budget=budget) as client:
        with pytest.raises(ProviderError):
            client.generate("a fox")
        assert budget.spent == 0
        fal.fault(silence(), on="submit")
        with pytest.raises(DeadlineExceeded):
            client.generate("a fox", timeout=0.3)
    assert budget.spent == Decimal("0.04"), "an unknown outcome counts as spent"


# Law 6


def test_a_key_from_the_environment_does_not_go_to_a_strange_address(openai, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-of-the-environment")
    with ImageClient(GPT, base_url=openai.base_url) as client, pytest.raises(ProviderError):
        client.generate("a fox")
    assert "canary" not in str([request.headers for request in openai.requests])


def test_a_missing_key_is_told_before_anything_is_made(monkeypatch):
    for name in ("OPENAI_API_KEY", "FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingCredentials, match="OPENAI_API_KEY"):
        ImageClient(GPT)
    with pytest.raises(MissingCredentials, match="FAL_KEY"):
        ImageClient(FLUX)


def test_a_key_does_not_pickle():
    from diptych.keys import Secret

    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("sk-canary"))


# The client itself


@pytest.mark.parametrize(
    ("model", "settings", "error", "told"),
    [
        ("gpt-image-2", {}, UnknownModel, "provider/model"),
        ("opanai/gpt-image-2", {}, UnknownModel, "did you mean openai"),
        (GPT, {"device": "cuda"}, ConfigurationError, "local models"),
        (GPT, {"speed": "turbo"}, ConfigurationError, "local models"),
        (GPT, {"chat_modell": "x"}, ConfigurationError, "did you mean chat_model"),
        (GPT, {"max_retries": -1}, ConfigurationError, "max_retries"),
        (GPT, {"budget": "abc"}, ConfigurationError, "amount of money"),
        (GPT, {"budget": -1}, ConfigurationError, "amount of money"),
        (GPT, {"budget": True}, ConfigurationError, "amount of money"),
        (GPT, {"budget": []}, ConfigurationError, "amount of money"),
        (GPT, {"timeout": 0}, InvalidInput, "deadline"),
        (GPT, {"timeout": None}, InvalidInput, "deadline"),
        (GPT, {"api_key": "  "}, ConfigurationError, "not empty"),
        (GPT, {"api_key": "schlüssel"}, ConfigurationError, "ASCII"),
    ],
)
def test_a_wrong_setting_is_refused(model, settings, error, told):
    with pytest.raises(error, match=told):
        ImageClient(model, **{"api_key": "k", **settings})


def test_a_closed_client_says_so(openai):
    client = painter(openai)
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.generate("a fox")


def test_previews_are_not_paid_for_where_nobody_sees_them(openai):
    with painter(openai) as client, pytest.raises(InvalidInput, match="stream_generate"):
        client.generate("a fox", previews=2)
    assert openai.requests == []


def test_a_plan_or_a_turn_with_previews_runs_as_a_stream_only(openai):
    with painter(openai) as client:
        plan, chat = client.plan("a fox", previews=1), client.conversation()
        for pay in (plan.run, lambda: chat.send("a fox", previews=1)):
            with pytest.raises(InvalidInput, match="is for streams"):
                pay()
        assert openai.requests == []
        assert isinstance(list(client.stream(plan))[-1], Completed)
    assert chat.turns == ()


def test_previews_are_numbered_by_the_picture_of_the_result(openai):
    with painter(openai) as client:
        *shown, _ = client.stream_generate("a fox", n=3, previews=1)
    assert sorted(each.picture for each in shown if isinstance(each, Preview)) == [0, 1, 2]


def test_a_turn_can_be_streamed(openai):
    with painter(openai) as client:
        chat = client.conversation()
        *shown, last = chat.stream("a fox", previews=2)
        assert [each.index for each in shown if isinstance(each, Preview)] == [0, 1]
        assert chat.turns[-1].result is last.result
        assert chat.send("make it a raccoon").plan.mode == "continue"


def test_a_turn_that_is_left_early_did_not_happen(openai):
    with painter(openai) as client:
        chat = client.conversation()
        for event in chat.stream("a fox", previews=2):
            if isinstance(event, Preview):
                break
        assert chat.turns == ()
        openai.wait_until_idle()


def test_a_turn_can_be_streamed_asynchronously(fal):
    async def talk():
        async with AsyncImageClient(FLUX, api_key=fal.key, base_url=fal.origin) as client:
            chat = client.conversation()
            events = [event async for event in chat.stream("a fox")]
            assert chat.image == events[-1].result.image

    asyncio.run(talk())


def test_threads_share_a_client(openai):
    with painter(openai) as client, ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda k: client.generate(f"fox {k}").image, range(16)))
    assert len({image.sha256 for image in images}) == 16


def test_a_forgotten_client_leaves_no_thread_and_no_connection(openai):
    threads = threading.active_count()
    painter(openai).generate("a fox")
    gc.collect()
    openai.wait_until_idle()
    assert threading.active_count() == threads


def test_leaving_a_stream_early_cancels_it(fal):
    fal.fault(stuck())
    with painter(fal) as client:
        for event in client.stream_generate("a fox"):
            assert isinstance(event, Queued)
            break
        asked = fal.count("status")
    fal.wait_until_idle()
    assert fal.count("status") <= asked + 1


def test_map_keeps_the_order_and_returns_errors_in_place(openai):
    openai.fault(status(400), times=1, after=1)
    with painter(openai) as client:
        results = list(client.map(["one", "two", "three"], concurrency=1, on_error="return"))
    assert [type(result).__name__ for result in results] == ["Result", "ProviderError", "Result"]
    assert results[0].image.provenance["prompt"] == "one"


def test_map_stops_sending_after_the_first_error(openai):
    openai.fault(status(400), times=1, after=1)
    with painter(openai) as client, pytest.raises(ProviderError):
        list(client.map(["one", "two", "three", "four"], concurrency=1))
    assert openai.count("generate") == 2


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"on_error": "ignore"}])
def test_map_checks_its_options(openai, options):
    with painter(openai) as client, pytest.raises(InvalidInput):
        list(client.map(["one"], **options))


def test_the_async_client_serves_one_loop_after_another(openai):
    client = AsyncImageClient(GPT, api_key=openai.key, base_url=openai.base_url)

    async def once() -> Any:
        result = await client.plan("a fox").run()
        for provider in list(client._running.values()):
            await provider.aclose()
        return result.image

    assert asyncio.run(once()) == asyncio.run(once())


def test_a_format_that_fal_cannot_make_is_converted_here(fal):
    with painter(fal) as client:
        result = client.generate("a fox", format="webp")
    assert result.image.format == "webp"
    assert [notice.option for notice in result.notices if notice.kind == "translated"] == ["format"]


# Conversations


@pytest.mark.parametrize("kind", ["openai", "fal"])
def test_a_conversation_goes_on_after_undo_fork_and_reload(kind, request):
    with painter(request.getfixturevalue(kind)) as client:
        chat = client.conversation()
        first = chat.send("Generate a watercolor of a fox reading a book.").image
        chat.send("Then make a variant where it's a raccoon.")
        branch = chat.fork(at=1)
        assert chat.undo().prompt == "Then make a variant where it's a raccoon."
        assert chat.image == branch.image == first
        again = client.load_conversation(chat.to_json())
        sent = [talk.send("Make it an otter.") for talk in (chat, branch, again)]
    assert sent[0].images == sent[1].images == sent[2].images
    assert [turn.description for turn in again.turns] == [
        "a watercolor of a fox reading a book",
        "a watercolor of an otter reading a book",
    ]


def test_a_failed_turn_leaves_the_conversation_as_it_was(openai):
    with painter(openai) as client:
        chat = client.conversation()
        chat.send("Generate a fox.")
        openai.fault(status(400), times=1)
        with pytest.raises(ProviderError):
            chat.send("Make it a raccoon.")
        assert len(chat.turns) == 1
        assert chat.send("Make it a raccoon.").plan.mode == "continue"


def test_a_conversation_may_begin_with_a_picture(openai):
    with painter(openai) as client:
        chat = client.conversation(image=noise())
        assert chat.plan("Make it blue.").mode == "instruct"
        chat.send("Make it blue.")
        assert chat.send("Now red.").plan.mode == "continue"


def test_a_conversation_switches_models(openai, fal):
    with painter(openai) as autoregressive, painter(fal) as diffusion:
        chat = autoregressive.conversation()
        chat.send("Generate a fox in the snow.")
        chat.switch(diffusion)
        assert chat.send("Make it a raccoon.").plan.model == "fal/flux-pro/kontext"
        chat.switch(autoregressive)
        assert chat.send("Make it an otter.").plan.mode == "instruct"
    assert chat.turns[-1].description == "an otter in the snow"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"diptych_conversation": 2}', "null"])
def test_what_is_no_saved_conversation_is_refused(openai, text):
    with painter(openai) as client, pytest.raises(InvalidInput, match="not a conversation"):
        client.load_conversation(text)


def test_there_is_nothing_to_undo_in_a_new_conversation(openai):
    with painter(openai) as client:
        chat = client.conversation()
        with pytest.raises(InvalidInput, match="no turn"):
            chat.undo()
        with pytest.raises(InvalidInput, match="at=1"):
            chat.fork(at=1)


def test_the_async_conversation_is_the_same(openai):
    async def main() -> list[str]:
        async with AsyncImageClient(GPT, api_key=openai.key, base_url=openai.base_url) as client:
            chat = client.conversation()
            await chat.send("Generate a fox.")
            await chat.send("Make it a raccoon.")
            return [turn.mode for turn in chat.turns]

    assert asyncio.run(main()) == ["generate", "continue"]


# Law 8


def test_importing_diptych_loads_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import diptych\n"
        "print({name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (
        "{'diptych'}",
        "{'diptych', '__future__'}",
        "{'__future__', 'diptych'}",
    )


def test_a_client_imports_no_sdk_before_it_runs():
    code = (
        "import sys; from diptych import ImageClient\n"
        "for model in ('openai/gpt-image-2', 'fal/flux-pro/v1.1'):\n"
        "    ImageClient(model, api_key='k').plan('a fox')\n"
        "print(sorted({'openai', 'fal_client', 'httpx2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    import diptych

    for name in diptych.__all__:
        assert getattr(diptych, name) is not None
    assert set(diptych.__all__) <= set(dir(diptych))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = diptych.Painter
