"""Turns of a conversation: the Responses API and its image tool.

A turn goes on from the one before in one of three ways (`continue_by`): "response" names the
previous response, which the service keeps together with everything that was said; "image" names the
previous picture only and repeats what was said; "bytes" sends the picture again and needs nothing
to be kept, so it is the way when `store=False`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diptych.cards import EditMode
from diptych.errors import InvalidInput, UnsupportedOption
from diptych.notices import Notice
from diptych.plan import Call, State
from diptych.request import Request

from .cards import MAX_PICTURES_IN, Family
from .extras import extras
from .images_api import checked_prompt, options, references
from .pictures import alpha, presentable

__all__ = ["TURN", "Chat", "ContinueBy", "call", "state_after"]

TURN = "responses.create"
ContinueBy = Literal["response", "image", "bytes"]

_TOOL = (
    "output_compression",
    "moderation",
    "complexity",
    "input_fidelity",
    "frame_count",
    "frame_duration_ms",
    "svg",
    "action",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """The settings of a client that conversations use. `store` None leaves it to the service."""

    model: str
    store: bool | None = None
    continue_by: ContinueBy = "response"
    instructions: str | None = None


def call(
    request: Request,
    model: str,
    facts: Family | None,
    target: str,
    chat: Chat,
    state: State,
) -> tuple[Call, tuple[Notice, ...]]:
    """One turn. Raises `UnsupportedOption` for several pictures: a turn makes one."""
    if request.n > 1:
        raise UnsupportedOption(
            f"a turn makes one picture, not {request.n}; fork the conversation, or use edit(..., n=...)",
            option="n",
        )
    notices: list[Notice] = []
    more, noticed = extras(request, facts, "turn")
    notices += noticed
    tool = {"type": "image_generation", "model": model, **options(request, notices)}
    tool |= {name: more.pop(name) for name in _TOOL if name in more}
    content: list[dict[str, Any]] = [{"type": "input_text", "text": checked_prompt(request.prompt)}]
    room = MAX_PICTURES_IN - request.is_edit
    # The picture to edit comes last: the latest picture is the one that a turn is about.
    pictures = references(request, notices, room=room)
    if request.image is not None and _resend(request, state, chat.continue_by):
        pictures.append(presentable(request.image, notices))
        if request.mode is not EditMode.CONTINUE or request.mask is not None:
            tool.setdefault("action", "edit")
    content += [{"type": "input_image", "image_url": picture} for picture in pictures]
    if request.mask is not None:
        tool["input_image_mask"] = {"image_url": alpha(request.mask, pictures[-1])}
    if request.previews is not None:
        tool["partial_images"] = request.previews
    payload: dict[str, Any] = {
        "model": chat.model,
        "input": [*_before(state, chat.continue_by), {"role": "user", "content": content}],
        "tools": [tool],
        "tool_choice": {"type": "image_generation"},
    }
    if chat.continue_by == "response" and (previous := state.get("response_id")):
        payload["previous_response_id"] = previous
    if chat.store is not None:
        payload["store"] = chat.store
    if chat.instructions is not None:
        # Not carried over by the service, so every turn says it.
        payload["instructions"] = chat.instructions
    if request.previews:
        payload["stream"] = True
    payload |= more
    return Call(operation=TURN, method="POST", target=target, payload=payload), tuple(notices)


def _resend(request: Request, state: State, way: ContinueBy) -> bool:
    """Whether the picture itself goes along: it is not where the service still has that picture.

    After a masked turn the service has its own picture, not the one whose protected pixels were put
    back, and a mask is meant for the picture that the caller sees.
    """
    known = state.get("response_id") if way == "response" else state.get("image_id")
    if way == "bytes" or not known or state.get("composited"):
        return True
    return request.mask is not None or request.mode is not EditMode.CONTINUE


def _before(state: State, way: ContinueBy) -> list[dict[str, Any]]:
    """What the service has to be told again of the turns before."""
    if way == "response":
        return []
    said = [dict(each) for each in state.get("said", ())]
    if way == "image" and (picture := state.get("image_id")):
        said.append({"type": "image_generation_call", "id": picture})
    return said


def state_after(payload: Mapping[str, Any], answer: Mapping[str, Any], text: str) -> State:
    """What the next turn needs, as JSON values, from what was sent and what came back."""
    pictures = [
        item["id"]
        for item in answer.get("output") or ()
        if item.get("type") == "image_generation_call" and item.get("id") and item.get("result")
    ]
    words = [
        part["text"] for part in payload["input"][-1]["content"] if part["type"] == "input_text"
    ]
    earlier = [each for each in payload["input"][:-1] if "role" in each]
    said = [*earlier, {"role": "user", "content": " ".join(words)}]
    if text:
        said.append({"role": "assistant", "content": text})
    state: dict[str, Any] = {"said": said}
    if payload.get("store", True):
        state |= {"response_id": answer.get("id")} if answer.get("id") else {}
        named = [each["id"] for each in payload["input"] if "id" in each]
        state |= {"image_id": (pictures or named)[-1]} if pictures or named else {}
    if "input_image_mask" in payload["tools"][0]:
        state["composited"] = True
    return state


def checked_way(value: Any, store: bool | None) -> ContinueBy:
    """The setting `continue_by`, or its default. Raises `InvalidInput`."""
    if value is None:
        return "bytes" if store is False else "response"
    if value not in ("response", "image", "bytes"):
        raise InvalidInput(f"continue_by={value!r} must be 'response', 'image' or 'bytes'")
    if store is False and value != "bytes":
        raise InvalidInput(
            f"continue_by={value!r} needs what store=False keeps from being kept; use 'bytes'"
        )
    return value  # type: ignore[no-any-return]  # one of the three, as checked
