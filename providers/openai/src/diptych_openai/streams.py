"""Server-sent events, gathered into the answer that the same call has without streaming.

Events may come twice or out of order, an error may be flat or nested, and a stream has to finish its
pictures: nothing else checks that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from diptych.errors import DiptychError
from diptych.events import Preview, TextDelta
from diptych.image import Image
from diptych.notices import Notice
from diptych.provider import Outcome

from .answers import Reader, picture

__all__ = ["ImagesStream", "TurnStream"]

Shown = Preview | TextDelta


class _Stream(ABC):
    """`finished`: the answer is whole. `pictures`: finished ones, by the keys of `Reader`."""

    def __init__(self, reader: Reader, *, watched: bool) -> None:
        self.reader = reader
        self.watched = watched
        self.finished = False
        self.pictures: dict[str, Image] = {}
        self.notices: list[Notice] = []
        self._seen: set[tuple[int, int]] = set()

    def preview(self, text: Any, place: int, index: Any) -> tuple[Shown, ...]:
        """An unfinished picture, unless it came before; a broken one is no reason to fail."""
        number = index if isinstance(index, int) else len(self._seen)
        if not self.watched or (place, number) in self._seen:
            return ()
        self._seen.add((place, number))
        try:
            return (Preview(picture(text), number, place),)
        except ValueError as error:
            told = f"preview {number} was broken and is not shown: {error}"
            self.notices.append(Notice("mismatch", told, "previews"))
            return ()

    def lost(self, failure: DiptychError) -> None:
        """The stream broke off. Raises, unless there are finished pictures, which are paid for."""
        if not self.pictures:
            raise failure
        told = f"the stream broke off after its picture, so usage and cost are not known: {failure}"
        self.notices.append(Notice("mismatch", told))
        self.finished = True

    def so_far(self) -> Outcome:
        """The finished pictures, while the stream goes on."""
        told = "the stream had not ended, so usage and cost are not known"
        notices = (*self.notices, Notice("mismatch", told))
        return self.reader.outcome(self.body(), notices, dict(self.pictures))

    @abstractmethod
    def body(self) -> dict[str, Any]:
        """The answer in the form that it has without streaming."""

    def ended(self) -> None:
        """The events are over."""
        if not self.finished:
            self.lost(self.reader.broken("ended its stream before the picture was finished"))

    def kind(self, event: Any) -> str:
        """The type of an event; "error" for one that holds an error instead of a type."""
        if isinstance(event, dict) and event.get("error"):
            return "error"
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise self.reader.broken("sent an event without a type")
        return str(event["type"])


class ImagesStream(_Stream):
    """A stream of the Images API. It does not say of which picture an unfinished one is."""

    def __init__(self, reader: Reader, *, watched: bool) -> None:
        super().__init__(reader, watched=watched)
        self._texts: set[str] = set()
        self._last: dict[str, Any] = {}

    def feed(self, event: Any) -> tuple[Shown, ...]:
        """Take the next event; what there is to show."""
        kind = self.kind(event)
        if kind == "error":
            self.lost(self.reader.refused(event))
        elif kind.endswith(".partial_image"):
            return self.preview(
                event.get("b64_json"), len(self.pictures), event.get("partial_image_index")
            )
        elif kind.endswith(".completed"):
            text = event.get("b64_json")
            if text not in self._texts:
                place = len(self.pictures)
                self.pictures[str(place)] = self.reader.picture(text, place)
                self._texts.add(text)
                self._last = event
            self.finished = len(self.pictures) >= self.reader.call.images
        return ()

    def body(self) -> dict[str, Any]:
        """The answer in the form that it has without streaming."""
        names = ("background", "output_format", "quality", "size", "usage", "safety_identifier")
        facts = {name: self._last[name] for name in names if name in self._last}
        if len(self.pictures) > 1:
            facts.pop("usage", None)  # that of the last picture alone
        return {
            **facts,
            "created": self._last.get("created_at"),
            "data": [{} for _ in self.pictures],
        }


class TurnStream(_Stream):
    """A stream of the Responses API, keyed on `response.output_item.done`.

    Final bytes come there and again in `response.completed`; some services send no such end.
    """

    def __init__(self, reader: Reader, *, watched: bool) -> None:
        super().__init__(reader, watched=watched)
        self._calls: list[str] = []
        self._items: dict[str, dict[str, Any]] = {}
        self._response: dict[str, Any] = {}

    def feed(self, event: Any) -> tuple[Shown, ...]:
        """Take the next event; what there is to show."""
        match self.kind(event):
            case "error":
                self.lost(self.reader.refused(event))
            case "response.output_text.delta":
                text = event.get("delta")
                return (TextDelta(text),) if isinstance(text, str) and text else ()
            case "response.image_generation_call.partial_image":
                place = self._place(event.get("item_id"))
                return self.preview(
                    event.get("partial_image_b64"), place, event.get("partial_image_index")
                )
            case "response.output_item.done":
                self._done(event.get("item"))
            case "response.completed" | "response.failed" | "response.incomplete":
                self._begun(event)
                self.finished = True
            case "response.created" | "response.in_progress":
                self._begun(event)
        return ()

    def _begun(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if not isinstance(response, dict):
            raise self.reader.broken("sent an event without its `response`")
        self._response = response

    def _place(self, item: Any) -> int:
        if item not in self._calls:
            self._calls.append(str(item))
        return self._calls.index(str(item))

    def _done(self, item: Any) -> None:
        if not isinstance(item, dict):
            raise self.reader.broken("sent a finished item that is no object")
        name = str(item.get("id") or len(self._items))
        if name in self._items:
            return
        if item.get("type") == "image_generation_call" and item.get("result"):
            place = self._place(name)
            self.pictures[name] = self.reader.picture(item["result"], place)
        self._items[name] = item

    def body(self) -> dict[str, Any]:
        """The answer in the form that it has without streaming."""
        output = self._response.get("output")
        rest = [
            item
            for item in (output if isinstance(output, list) else ())
            if isinstance(item, dict) and str(item.get("id")) not in self._items
        ]
        return {**self._response, "output": [*self._items.values(), *rest]}
