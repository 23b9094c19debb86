"""Refusals in every documented form: moderation, quota, jobs that fail, jobs that never end.

The bodies of moderation_blocked, of the billing errors and of fal's content_policy_violation are
those that the vendors document or that their users quote; see `status` for any other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from .faults import Exchange, Fault, map_documents, rewrite, status
from .wire import Event, Reply

__all__ = [
    "balance_exhausted",
    "billing_limit",
    "failed_call",
    "failed_response",
    "incomplete_response",
    "moderation_blocked",
    "nsfw",
    "policy_violation",
    "quota_exhausted",
    "stuck",
]

OPENAI_PAID = ("generate", "edit", "responses")
Stage = Literal["input", "output", "unknown"]


def _blocked(stage: Stage | None, categories: Sequence[str]) -> dict[str, Any]:
    error: dict[str, Any] = {
        "message": "Your request was rejected by the safety system. If you believe this is an "
        "error, contact us at help.openai.com and include the request ID req_peer. "
        f"safety_violations=[{', '.join(categories)}].",
        "type": "image_generation_user_error",
        "param": None,
        "code": "moderation_blocked",
    }
    if stage is not None:
        error["moderation_details"] = {
            "moderation_stage": stage,
            "categories": list(categories),
        }
    return error


def moderation_blocked(
    stage: Stage | None = "output", categories: Sequence[str] = ("sexual",)
) -> Fault:
    """OpenAI's 400; `stage=None` leaves `moderation_details` out, as Azure does."""
    blocked = status(400, {"error": _blocked(stage, categories)})
    return replace(blocked, name="moderation_blocked", on=OPENAI_PAID)


def failed_call(stage: Stage = "output", categories: Sequence[str] = ("sexual",)) -> Fault:
    """OpenAI's moderation inside a 200: the `image_generation_call` of a response has failed."""
    error = _blocked(stage, categories)

    def fail(data: Any) -> Any:
        if isinstance(data, list):
            return [fail(item) for item in data]
        if not isinstance(data, dict):
            return data
        if data.get("type") == "image_generation_call" and data.get("status") == "completed":
            return {**data, "status": "failed", "result": None, "error": error}
        return {key: fail(value) for key, value in data.items()}

    def change(reply: Reply) -> Reply | None:
        failed = map_documents(reply, fail)
        if failed is None or failed.events is None:
            return failed
        # A call that was blocked shows no pictures on its way and does not complete.
        unsent = tuple(
            f"response.image_generation_call.{name}" for name in ("partial_image", "completed")
        )
        kept = tuple(e for e in failed.events if e.name not in unsent)
        return replace(failed, events=kept)

    return rewrite("failed image_generation_call", change, on=("responses",))


def failed_response(
    code: str = "image_content_policy_violation", message: str = "The image was refused."
) -> Fault:
    """A response with status "failed" and an error in it (in a stream: `response.failed`)."""
    more = {"status": "failed", "error": {"code": code, "message": message}, "output": []}
    return _ended("response.failed", more)


def incomplete_response(reason: str = "content_filter") -> Fault:
    """A response with status "incomplete" (in a stream: `response.incomplete`)."""
    more = {"status": "incomplete", "incomplete_details": {"reason": reason}, "output": []}
    return _ended("response.incomplete", more)


def _ended(event: str, more: dict[str, Any]) -> Fault:
    def change(reply: Reply) -> Reply | None:
        if reply.events is None:
            return replace(reply, data={**reply.data, **more})
        first, last = reply.events[0], reply.events[-1].data
        response = {**last["response"], **more}
        return replace(
            reply,
            events=(
                first,
                Event(event, {"type": event, "sequence_number": 1, "response": response}),
            ),
        )

    return rewrite(event, change, on=("responses",))


def quota_exhausted(code: str = "credit_balance_exhausted") -> Fault:
    """OpenAI's 429 that no waiting helps: credit or a spending limit is used up."""
    error = {
        "message": "You have no credit left, or a spending limit was reached.",
        "type": "insufficient_quota",
        "param": None,
        "code": code,
    }
    return replace(status(429, {"error": error}), name="quota exhausted", on=OPENAI_PAID)


def billing_limit() -> Fault:
    """OpenAI's older 400 `billing_hard_limit_reached`."""
    error = {
        "message": "Billing hard limit has been reached",
        "type": "invalid_request_error",
        "param": None,
        "code": "billing_hard_limit_reached",
    }
    return replace(status(400, {"error": error}), name="billing limit", on=OPENAI_PAID)


def balance_exhausted() -> Fault:
    """fal's 403 for an account without credit."""
    detail = (
        "User is locked. Reason: Exhausted balance. Top up your balance at "
        "fal.ai/dashboard/billing."
    )
    return replace(
        status(403, {"detail": detail}), name="balance exhausted", on=("submit", "run", "stream")
    )


def policy_violation(field: str = "prompt") -> Fault:
    """fal's 422 `content_policy_violation`, in the result of a queued job or of a run."""
    body = {
        "detail": [
            {
                "loc": ["body", field],
                "msg": "The content could not be processed because it contained material "
                "flagged by a content checker.",
                "type": "content_policy_violation",
                "url": "https://docs.fal.ai/errors#content_policy_violation",
                "input": "",
            }
        ]
    }
    refused = status(422, body, headers={"x-fal-retryable": "false"})
    return replace(refused, name="content_policy_violation", on=("result", "run"))


def nsfw() -> Fault:
    """fal's 200 with `has_nsfw_concepts` true and black pictures."""

    def answer(exchange: Exchange) -> Reply | None:
        reply = exchange.reply
        if reply is None or not isinstance(reply.data, dict) or "images" not in reply.data:
            return None
        images = [{**image, "url": _black(image["url"])} for image in reply.data["images"]]
        flags = [True] * len(images)
        return replace(reply, data={**reply.data, "images": images, "has_nsfw_concepts": flags})

    return Fault("has_nsfw_concepts", answer, on=("result", "run"))


def _black(url: str) -> str:
    return url.replace("/files/", "/files/black/", 1)


def stuck(state: Literal["IN_QUEUE", "IN_PROGRESS"] = "IN_PROGRESS") -> Fault:
    """fal's job never leaves this state."""
    body: dict[str, Any] = {"status": state}
    body |= {"queue_position": 3} if state == "IN_QUEUE" else {"logs": None}
    return replace(status(202, body), name=f"stuck {state}", on=("status",))
