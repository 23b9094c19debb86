"""From the body of an answer to pictures, words, usage and cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from diptych import base64s
from diptych.cost import Cost
from diptych.errors import DiptychError, InvalidInput
from diptych.image import Image
from diptych.notices import Notice
from diptych.plan import Call
from diptych.pricing import Pricing
from diptych.provider import Outcome
from diptych.result import Usage
from diptych.sniff import MAX_BYTES

from .errors import Answered, Origin, malformed, refusal
from .turns import TURN, state_after
from .usage import cost_of, image_usage, turn_usage

__all__ = ["Reader", "picture", "without_pictures"]

_LONG = 512
_HEAVY = frozenset({"b64_json", "result", "partial_image_b64", "image_url", "encrypted_content"})


def picture(text: Any) -> Image:
    """The picture that base64 `text` holds. Raises `ValueError`."""
    if not isinstance(text, str):
        raise ValueError("it is not a text")
    try:
        return Image.of(base64s.decode(text, limit=MAX_BYTES))
    except InvalidInput as error:
        raise ValueError(str(error)) from None


def without_pictures(value: Any) -> Any:
    """`value` with the text of pictures, and other opaque blobs, replaced by its length."""
    if isinstance(value, dict):
        return {
            name: f"<{len(each):,} characters>"
            if name in _HEAVY and isinstance(each, str) and len(each) > _LONG
            else without_pictures(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [without_pictures(each) for each in value]
    return value


class Reader:
    """Reads the answer to one call. `request_id` is known once its headers are."""

    def __init__(self, call: Call, origin: Origin, price: Pricing | None) -> None:
        self.call = call
        self.origin = origin
        self.price = price
        self.request_id: str | None = None

    def broken(self, what: str) -> DiptychError:
        """`MalformedResponse` with what is known."""
        return malformed(what, self.origin, request_id=self.request_id)

    def refused(self, body: Any) -> DiptychError:
        """The error for a refusal inside a 200."""
        answer = Answered.read(body, status=200, request_id=self.request_id)
        return refusal(answer, self.origin)

    def picture(self, text: Any, place: int) -> Image:
        """Picture number `place` of the answer."""
        try:
            return picture(text)
        except ValueError as error:
            failure = self.broken(f"sent a broken picture (number {place + 1}): {error}")
        raise failure

    def parsed(self, body: bytes, content_type: str) -> dict[str, Any]:
        """The JSON object that a body holds."""
        from jiter import from_json

        try:
            # Picture texts are not worth remembering: only keys repeat.
            value = from_json(body, cache_mode="keys")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            start = body[:80].decode("utf-8", "replace").strip()
            kind = content_type.partition(";")[0] or "no content type"
            raise self.broken(
                f"answered with no JSON object but {len(body):,} bytes of {kind}: {start!r}"
            )
        if value.get("error"):
            raise self.refused(value)
        return value

    def outcome(
        self, body: dict[str, Any], notices: tuple[Notice, ...], pictures: dict[str, Image]
    ) -> Outcome:
        """The outcome of a whole answer.

        `pictures` are those that are decoded already: by URL or place in `data` for the Images API,
        by the id of the call for the Responses API.
        """
        if self.call.operation == TURN:
            return self._turn(body, notices, pictures)
        return self._images(body, notices, pictures)

    # Images API

    def _images(
        self, body: dict[str, Any], notices: tuple[Notice, ...], pictures: dict[str, Image]
    ) -> Outcome:
        items = body.get("data")
        if not isinstance(items, list) or not items:
            raise self.broken("answered without any picture: its `data` is missing or empty")
        images, rewritten = [], []
        for place, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.broken("answered with something that is no picture in its `data`")
            found = pictures.get(str(item.get("url"))) or pictures.get(str(place))
            image = found or self.picture(item.get("b64_json"), place)
            if item.get("revised_prompt"):
                rewritten.append(item["revised_prompt"])
                image = image.with_(provenance={"revised_prompt": item["revised_prompt"]})
            images.append(image)
        sent = "image" in self.call.payload or "images" in self.call.payload
        usage = image_usage(body.get("usage"), self.price, pictures_in=sent)
        return Outcome(
            images=tuple(images),
            usage=usage,
            cost=cost_of(usage, self.price),
            model=f"openai/{body.get('model') or self.call.payload['model']}",
            request_id=self.request_id,
            notices=(*notices, *self._types(images, body.get("output_format"))),
            raw=without_pictures(body),
        )

    def _types(self, images: list[Image], announced: Any) -> tuple[Notice, ...]:
        asked = announced or self.call.payload.get("output_format")
        return tuple(
            Notice("mismatch", f"{asked} was announced, the picture is {image.format}", "format")
            for image in images
            if asked and image.format != asked
        )

    # Responses API

    def _turn(
        self, body: dict[str, Any], notices: tuple[Notice, ...], pictures: dict[str, Image]
    ) -> Outcome:
        output = body.get("output")
        if not isinstance(output, list):
            raise self.broken("answered without `output`")
        items = [item for item in output if isinstance(item, dict)]
        made = [item for item in items if item.get("type") == "image_generation_call"]
        images, told = [], list(notices)
        for place, item in enumerate(made):
            if item.get("result"):
                found = pictures.get(str(item.get("id")))
                image = found or self.picture(item["result"], place)
                if item.get("revised_prompt"):
                    image = image.with_(provenance={"revised_prompt": item["revised_prompt"]})
                images.append(image)
                told += self._types([image], item.get("output_format"))
        failed = [
            item for item in made if item.get("status") == "failed" and not item.get("result")
        ]
        text, refusals = _words(items)
        if not images:
            self._check_ending(body, failed, refusals, made=bool(made), text=text)
        told += [Notice("content", f"one picture failed: {self._failed(item)}") for item in failed]
        model, noticed = self._answering(body)
        usage = turn_usage(body, self.price)
        cost, cost_notices = self._turn_cost(usage, images=bool(images))
        return Outcome(
            images=tuple(images),
            text="\n".join(filter(None, (text, *refusals))),
            usage=usage,
            cost=cost,
            model=model,
            request_id=self.request_id,
            notices=(*told, *noticed, *cost_notices),
            state=state_after(self.call.payload, body, text),
            raw=without_pictures(body),
        )

    def _failed(self, item: dict[str, Any]) -> DiptychError:
        """The error for a call of the image tool that failed."""
        return self.refused(
            item.get("error") or {"message": "its image tool failed", "code": "failed"}
        )

    def _check_ending(
        self,
        body: dict[str, Any],
        failed: list[dict[str, Any]],
        refusals: list[str],
        *,
        made: bool,
        text: str,
    ) -> None:
        """Raises for an answer without pictures, unless the model simply talked."""
        if body.get("error"):
            raise self.refused(body)
        if failed:
            raise self._failed(failed[0])
        reason = (body.get("incomplete_details") or {}).get("reason")
        if reason == "content_filter":
            raise self.refused({"message": "the answer was filtered", "code": "content_filter"})
        if body.get("status") in ("incomplete", "failed", "cancelled"):
            code = reason or body["status"]
            raise self.refused({"message": f"the answer ended early: {code}", "code": code})
        if refusals:
            raise self.refused({"message": " ".join(refusals), "code": "refusal"})
        if made:
            raise self.broken("called its image tool and sent no picture")
        if not text:
            raise self.broken("answered with neither a picture nor a text")

    def _answering(self, body: dict[str, Any]) -> tuple[str, tuple[Notice, ...]]:
        """The image model that the tool says it used."""
        asked = str(self.call.payload["tools"][0]["model"])
        tools = (tool for tool in body.get("tools") or () if isinstance(tool, dict))
        named = (tool.get("model") for tool in tools if tool.get("type") == "image_generation")
        answered = next(filter(None, named), asked)
        if answered == asked or str(answered).startswith(f"{asked}-"):
            return f"openai/{answered}", ()
        told = f"{asked} was asked for, {answered} answered"
        return f"openai/{answered}", (Notice("mismatch", told, "model"),)

    def _turn_cost(self, usage: Usage | None, *, images: bool) -> tuple[Cost, tuple[Notice, ...]]:
        """Unknown where a chat model took part, since its price is not in our tables."""
        part = cost_of(usage, self.price)
        if part.amount is None or not images:
            return Cost(), ()
        if usage is None or usage.chat is None:
            return part, ()
        told = (
            f"the picture cost {_short(part.amount)} {part.currency}; the tokens of the chat model "
            f"{self.call.payload['model']} ({usage.chat.total_tokens}) come on top"
        )
        return Cost(), (Notice("cost", told),)


def _short(amount: Decimal) -> str:
    return f"{amount:.6f}".rstrip("0")


def _words(items: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """What the model said, and its refusals."""
    said, refusals = [], []
    for item in items:
        for part in item.get("content") or () if item.get("type") == "message" else ():
            if part.get("type") == "output_text" and part.get("text"):
                said.append(part["text"])
            elif part.get("type") == "refusal" and part.get("refusal"):
                refusals.append(part["refusal"])
    return "\n".join(said), refusals
