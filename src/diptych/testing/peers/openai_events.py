"""The events of a streamed response, in the order in which the service sends them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .openai_images import Job, encoded
from .wire import Event

__all__ = ["NO_TOKENS", "response_events"]

NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "total_tokens": 0,
}


def response_events(response: dict[str, Any], job: Job | None, partials: int) -> list[Event]:
    """The stream of a finished `response` whose picture was ordered by `job`."""
    events: list[Event] = []

    def say(kind: str, **more: Any) -> None:
        events.append(Event(kind, {"type": kind, "sequence_number": len(events), **more}))

    begun = {**response, "status": "in_progress", "completed_at": None, "output": []}
    begun |= {"usage": None, "tool_usage": {"image_gen": NO_TOKENS}}
    say("response.created", response=begun)
    say("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        where = {"output_index": index}
        if item["type"] == "image_generation_call":
            call = {**where, "item_id": item["id"]}
            fresh = {"id": item["id"], "type": item["type"], "status": "in_progress"}
            say("response.output_item.added", **where, item=fresh)
            say("response.image_generation_call.in_progress", **call)
            say("response.image_generation_call.generating", **call)
            for step in range(partials if job is not None else 0):
                say(
                    "response.image_generation_call.partial_image",
                    **call,
                    partial_image_index=step,
                    partial_image_b64=_rough(job, partials - step),
                    **{n: item[n] for n in ("size", "quality", "background", "output_format")},
                )
            say("response.image_generation_call.completed", **call)
        elif item["type"] == "message":
            _say_message(say, item, where)
        else:
            say("response.output_item.added", **where, item=item)
        say("response.output_item.done", **where, item=item)
    say("response.completed", response=response)
    return events


def _rough(job: Job | None, distance: int) -> str:
    assert job is not None
    return encoded(replace(job, prompt=f"{job.prompt} (still {distance} steps off)").paint())


def _say_message(say: Callable[..., None], item: dict[str, Any], where: dict[str, int]) -> None:
    text = item["content"][0]["text"]
    say(
        "response.output_item.added", **where, item={**item, "status": "in_progress", "content": []}
    )
    place = {"item_id": item["id"], **where, "content_index": 0}
    empty = {**item["content"][0], "text": ""}
    say("response.content_part.added", **place, part=empty)
    for word in re.findall(r"\S+\s*", text):
        say("response.output_text.delta", **place, delta=word, logprobs=[])
    say("response.output_text.done", **place, text=text, logprobs=[])
    say("response.content_part.done", **place, part=item["content"][0])
