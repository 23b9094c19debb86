"""Faults of server-sent events: streams that end early, err inside, repeat or come out of order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .faults import Fault, map_events, rewrite
from .wire import Event, Reply

__all__ = [
    "azure_stream",
    "duplicated_events",
    "flat_error_event",
    "json_for_stream",
    "nested_error_event",
    "shuffled_partials",
    "unknown_event",
    "unterminated",
]

FINAL = ("image_generation.completed", "image_edit.completed", "response.completed")


def _type(event: Event) -> str:
    return str(event.data.get("type", "")) if isinstance(event.data, dict) else ""


def _holds_final_picture(event: Event) -> bool:
    if _type(event) in FINAL:
        return True
    item = event.data.get("item", {}) if isinstance(event.data, dict) else {}
    return _type(event) == "response.output_item.done" and "result" in item


def unterminated() -> Fault:
    """The stream ends in an orderly way before the final picture and before any terminal event."""

    def cut(events: tuple[Event, ...]) -> Iterable[Event] | None:
        first = next((k for k, event in enumerate(events) if _holds_final_picture(event)), None)
        return None if first is None else events[:first]

    return map_events("unterminated stream", cut)


def azure_stream() -> Fault:
    """As Azure sends it: no `response.image_generation_call.completed`. Not an error."""
    unsent = "response.image_generation_call.completed"

    def cut(events: tuple[Event, ...]) -> Iterable[Event] | None:
        kept = [event for event in events if _type(event) != unsent]
        return kept if len(kept) < len(events) else None

    return map_events("stream without .completed", cut)


def duplicated_events() -> Fault:
    """Every event comes twice."""
    return map_events("duplicated events", lambda events: [e for e in events for _ in range(2)])


def shuffled_partials() -> Fault:
    """The partial pictures come in reverse order; needs two of them."""

    def change(events: tuple[Event, ...]) -> Iterable[Event] | None:
        places = [k for k, e in enumerate(events) if _type(e).endswith(".partial_image")]
        if len(places) < 2:
            return None
        mixed = list(events)
        for place, source in zip(places, reversed(places), strict=True):
            mixed[place] = events[source]
        return mixed

    return map_events("shuffled partials", change)


def unknown_event() -> Fault:
    """An event of a type that no SDK knows comes first. Not an error."""
    news = Event("diptych.unheard_of", {"type": "diptych.unheard_of", "sequence_number": 0})
    return map_events("unknown event", lambda events: (news, *events))


def json_for_stream() -> Fault:
    """A plain JSON document where a stream was due."""

    def change(reply: Reply) -> Reply | None:
        if not reply.events:
            return None
        last = reply.events[-1].data
        document = last.get("response", last) if isinstance(last, dict) else last
        return replace(reply, events=None, data=document)

    return rewrite("JSON for a stream", change)


def flat_error_event(
    code: str = "server_error", message: str = "The server had an error.", *, after: int = 0
) -> Fault:
    """After `after` events comes `{"type": "error", "code": ..., "message": ...}`, and the end."""

    def change(events: tuple[Event, ...]) -> Iterable[Event]:
        kept = events[: min(after, len(events) - 1)]
        data: dict[str, Any] = {"type": "error", "code": code, "message": message, "param": None}
        return (*kept, Event("error", {**data, "sequence_number": len(kept)}))

    return map_events("flat error event", change)


def nested_error_event(
    code: str = "server_error", message: str = "The server had an error.", *, after: int = 0
) -> Fault:
    """After `after` events comes `{"error": {"code": ..., "message": ...}}`, and the end."""

    def change(events: tuple[Event, ...]) -> Iterable[Event]:
        kept = events[: min(after, len(events) - 1)]
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        return (*kept, Event("error", {"error": error}))

    return map_events("nested error event", change)
