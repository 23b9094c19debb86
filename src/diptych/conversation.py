"""Conversations: the same few words on both paradigms.

A conversation is a list of turns. Where the model can carry on its own state (`continue`), the turn
that made the picture holds it; elsewhere the planner works from the last picture and the
description of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, Unpack

from .cards import EditMode
from .errors import InvalidInput
from .events import Completed, Event
from .image import Image, ImageSource
from .options import EditOptions
from .plan import Plan, State
from .planner import History
from .request import Request
from .result import Result
from .rewrite import description, reading, rewrite

if TYPE_CHECKING:
    from .client import AsyncImageClient
    from .sync import ImageClient

__all__ = ["AsyncConversation", "Conversation", "Turn"]

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange. `description` says what the picture shows, None when that is not known."""

    prompt: str
    model: str
    mode: str
    images: tuple[Image, ...]
    text: str = ""
    description: str | None = None
    state: State | None = field(default=None, repr=False)
    result: Result | None = field(default=None, repr=False, compare=False)

    @property
    def image(self) -> Image | None:
        """The picture that the next turn works on; None when the model only talked."""
        return self.images[0] if self.images else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "model": self.model,
            "mode": self.mode,
            "text": self.text,
            "description": self.description,
            "state": None if self.state is None else dict(self.state),
            "images": [image.to_json() for image in self.images],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Turn:
        return cls(
            prompt=value["prompt"],
            model=value["model"],
            mode=value["mode"],
            text=value["text"],
            description=value["description"],
            state=value["state"],
            images=tuple(Image.from_json(each) for each in value["images"]),
        )


class _Thread:
    """What both kinds of conversation share: the turns, and what to ask next."""

    def __init__(self, client: Any, *, image: ImageSource | None = None) -> None:
        self._client = client
        self._opening = None if image is None else Image.of(image)
        self._turns: list[Turn] = []

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    @property
    def image(self) -> Image | None:
        """The picture that the next turn works on."""
        pictures = (turn.image for turn in reversed(self._turns))
        return next(filter(None, pictures), self._opening)

    def plan(self, text: str, **options: Unpack[EditOptions]) -> Plan:
        """What `send` would do: free, and without any network."""
        request, history = self._next(text, options)
        return self._client._planned(request, history)  # type: ignore[no-any-return]  # either client

    def undo(self) -> Turn:
        """Take the last turn back and return it. Raises `InvalidInput` when there is none."""
        if not self._turns:
            raise InvalidInput("there is no turn to undo")
        return self._turns.pop()

    def fork(self, at: int | None = None) -> Self:
        """A new conversation that shares the first `at` turns (all by default)."""
        kept = len(self._turns) if at is None else at
        if not 0 <= kept <= len(self._turns):
            raise InvalidInput(f"at={at} must be from 0 to {len(self._turns)}, the number of turns")
        return self._restored(self._client, self._opening, self._turns[:kept])

    def switch(self, client: Any) -> None:
        """Go on with another model, by its client: the next turn works on the last picture."""
        self._client = client

    def to_json(self) -> str:
        """The conversation with its pictures, for `client.load_conversation`. Holds no key."""
        return json.dumps(
            {
                "diptych_conversation": _VERSION,
                "opening": None if self._opening is None else self._opening.to_json(),
                "turns": [turn.to_dict() for turn in self._turns],
            }
        )

    @classmethod
    def from_json(cls, client: Any, text: str) -> Self:
        """Raises `InvalidInput` for what `to_json` did not write."""
        try:
            value = json.loads(text)
            if value["diptych_conversation"] != _VERSION:
                raise ValueError
            opening = value["opening"] and Image.from_json(value["opening"])
            turns = [Turn.from_dict(each) for each in value["turns"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidInput("this is not a conversation that diptych saved") from None
        return cls._restored(client, opening, turns)

    @classmethod
    def _restored(cls, client: Any, opening: Image | None, turns: list[Turn]) -> Self:
        thread = cls(client, image=opening)
        thread._turns = list(turns)
        return thread

    def _next(self, text: str, options: EditOptions) -> tuple[Request, History]:
        """The request for the next turn and what the planner may know."""
        options.setdefault("image", self.image)  # type: ignore[typeddict-item]  # Request.build's
        return Request.build(text, **options), self._history()

    def _history(self) -> History:
        """An empty state opens a conversation; one that another model interrupted opens anew."""
        last = self._turns[-1] if self._turns else None
        if last is None:
            return History(self.image, None, {})
        same = last.model == self._client.model
        return History(self.image, last.description, (last.state if same else None) or {})

    def _took(self, text: str, plan: Plan, result: Result) -> Result:
        before = self._turns[-1].description if self._turns else None
        self._turns.append(
            Turn(
                prompt=text,
                model=self._client.model,
                mode=str(plan.mode),
                images=result.images,
                text=result.text,
                description=_described(text, plan, before),
                state=result.state,
                result=result,
            )
        )
        return result


def _described(text: str, plan: Plan, before: str | None) -> str | None:
    """What the new picture shows, for a later turn that needs a description."""
    mode = plan.mode
    if (
        mode not in (EditMode.CONTINUE, EditMode.INSTRUCT)
        and reading(plan.request.prompt) != "instruction"
    ):
        return description(plan.request.prompt)
    if reading(text) == "description":
        return description(text)
    if before is None:
        return None
    try:
        return rewrite(text, before).prompt
    except InvalidInput:
        return None


class AsyncConversation(_Thread):
    """A conversation of an `AsyncImageClient`; see `Conversation`."""

    _client: AsyncImageClient

    async def send(
        self, text: str, *, timeout: float | None = None, **options: Unpack[EditOptions]
    ) -> Result:
        """Say something; the result's picture becomes the conversation's."""
        plan = await self._planned(text, options)
        return self._took(text, plan, await self._client._execute(plan, timeout))

    async def stream(
        self, text: str, *, timeout: float | None = None, **options: Unpack[EditOptions]
    ) -> AsyncGenerator[Event, None]:
        """As `send`, as events; the last is `Completed`. Close it to cancel."""
        plan = await self._planned(text, options)
        async with aclosing(self._client.stream(plan, timeout=timeout)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    self._took(text, plan, event.result)
                yield event

    async def _planned(self, text: str, options: EditOptions) -> Plan:
        request, history = self._next(text, options)
        return self._client._planned(await self._client._materialised(request), history)


class Conversation(_Thread):
    """A conversation of an `ImageClient`.

    `send` generates on the first turn and edits the last picture on the next ones, in the mode that
    the planner chooses for the model. A turn that raises leaves the conversation as it was.
    """

    _client: ImageClient

    def send(
        self, text: str, *, timeout: float | None = None, **options: Unpack[EditOptions]
    ) -> Result:
        """Say something; the result's picture becomes the conversation's.

        Options are those of `ImageClient.edit`. Raises as `edit` does.
        """
        plan = self._planned(text, options)
        return self._took(text, plan, self._client._execute(plan, timeout))

    def stream(
        self, text: str, *, timeout: float | None = None, **options: Unpack[EditOptions]
    ) -> Generator[Event, None, None]:
        """As `send`, as events; the last is `Completed`. Leaving the loop early cancels the turn."""
        plan = self._planned(text, options)
        with closing(self._client.stream(plan, timeout=timeout)) as events:
            for event in events:
                if isinstance(event, Completed):
                    self._took(text, plan, event.result)
                yield event

    def _planned(self, text: str, options: EditOptions) -> Plan:
        request, history = self._next(text, options)
        return self._client._planned(self._client._materialised(request), history)
