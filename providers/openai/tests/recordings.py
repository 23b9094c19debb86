"""How each recorded exchange is made again, and why some cannot be.

The recordings are of the real service (`DIPTYCH_SHARED/recordings/openai`). An entry names the plan
that leads to the same endpoint, and what has to come of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["EXPRESSED", "LEFT_OUT", "Expected"]

MINI, OLD, TWO = "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"
UNKNOWN = "gpt-image-of-nobody"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One recorded exchange. `at` is its place in the file. `edit` sends pictures (how many).

    `error` is the class that must be raised, `images` the format and size of every picture that must
    come out. `broken` tells that the pictures were cut when the recording was published, so that
    the answer has to be refused as malformed.
    """

    model: str = TWO
    at: int = 0
    edit: int = 0
    turn: bool = False
    previews: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None
    status: int | None = None
    images: tuple[tuple[str, tuple[int, int]], ...] = ()
    text: str | None = None
    broken: bool = False


def _square(kind: str, count: int = 1, side: int = 1024) -> tuple[tuple[str, tuple[int, int]], ...]:
    return ((kind, (side, side)),) * count


def _refused(model: str, code: str, **more: Any) -> Expected:
    return Expected(model=model, error="ProviderError", status=400, code=code, **more)


EXPRESSED: dict[str, tuple[Expected, ...]] = {
    "error-400-edit-url-download-404": (
        _refused(OLD, "invalid_value", edit=1, options={"extra": {"moderation": "auto"}}),
    ),
    "error-400-invalid-background": (
        _refused(MINI, "invalid_value", options={"extra": {"background": "rig-invalid"}}),
    ),
    "error-400-model-does-not-exist": (_refused("rig-nonexistent-image-model", "invalid_value"),),
    "error-400-model-name-with-space-does-not-exist": (_refused("bad model", "invalid_value"),),
    "error-400-response-format-rejected": (
        _refused(UNKNOWN, "unknown_parameter", options={"extra": {"response_format": "b64_json"}}),
    ),
    "error-400-response-format-unknown-parameter-body": (
        _refused(UNKNOWN, "unknown_parameter", options={"extra": {"response_format": "b64_json"}}),
    ),
    "error-400-size-not-multiple-of-16": (
        _refused("gpt-image-2-2026-04-21", "invalid_value", options={"extra": {"size": "3x3"}}),
    ),
    "error-400-size-not-supported": (
        _refused(MINI, "invalid_value", options={"extra": {"size": "3x3"}}),
    ),
    "error-400-temperature-below-minimum": (
        _refused(
            TWO,
            "decimal_below_min_value",
            turn=True,
            options={"extra": {"temperature": -1}},
        ),
    ),
    "error-401-invalid-api-key-generations": (
        Expected(error="AuthenticationFailed", status=401, code="invalid_api_key"),
    ),
    "images-edit-body-no-usage": (Expected(edit=1, broken=True),),
    "images-edit-multipart-gpt-image-1-5-jpeg": (
        Expected(
            model=OLD,
            edit=1,
            options={
                "format": "jpeg",
                "quality": "low",
                "size": "1024x1024",
                "extra": {"input_fidelity": "low"},
            },
            images=_square("jpeg"),
        ),
    ),
    "images-edit-multipart-transparent-png-then-describe": (
        Expected(edit=1, images=_square("png", side=1)),
    ),
    "images-edit-multipart-two-images-gpt-image-1": (Expected(edit=2, images=_square("png")),),
    "images-generate-body-two-items": (Expected(options={"n": 2}, broken=True),),
    "images-generate-gpt-image-1-mini-jpeg-low": (
        Expected(model=MINI, options={"format": "jpeg", "quality": "low"}, broken=True),
    ),
    "images-generate-gpt-image-1-mini-png": (Expected(model=MINI, images=_square("png")),),
    "images-generate-gpt-image-1-n2": (
        Expected(options={"n": 2, "size": "1024x1024"}, images=_square("png", 2, side=1)),
    ),
    "images-generate-gpt-image-1-png": (
        Expected(options={"size": "1024x1024"}, images=_square("png")),
    ),
    "images-generate-gpt-image-1-then-describe": (Expected(images=_square("png", side=1)),),
    "images-generate-gpt-image-2-jpeg": (
        Expected(
            options={"format": "jpeg", "quality": "low", "size": "1280x720"},
            images=(("jpeg", (1280, 720)),),
        ),
    ),
    "images-generate-gpt-image-2-webp": (
        Expected(
            options={"format": "webp", "quality": "low", "size": "1024x1024"},
            images=_square("webp"),
        ),
    ),
    "images-generate-listed-model": (Expected(options={"size": "1024x1024"}, broken=True),),
    "images-generate-second-client-same-body": (
        Expected(model=MINI, options={"size": "1024x1024"}, broken=True),
    ),
    "responses-action-generate-transparent": (
        Expected(
            turn=True,
            options={
                "background": "transparent",
                "quality": "high",
                "extra": {"action": "generate"},
            },
            broken=True,
        ),
    ),
    "responses-body-image-generation-call": (Expected(turn=True, broken=True),),
    "responses-function-call-then-image": (Expected(turn=True, at=1, broken=True),),
    "responses-generate-jpeg": (
        Expected(
            turn=True,
            options={"format": "jpeg", "size": "1536x1024"},
            images=(("jpeg", (1536, 1024)),),
        ),
    ),
    "responses-generate-with-json-schema-output-action-echoed": (Expected(turn=True, broken=True),),
    "responses-generate-with-json-schema-output": (Expected(turn=True, images=_square("png")),),
    "responses-image-and-text": (Expected(turn=True, broken=True),),
    "responses-input-image-mask-url": (
        Expected(
            turn=True,
            edit=1,
            options={"size": "1024x1024", "quality": "low"},
            images=_square("png"),
            text="",
        ),
    ),
    "responses-moderation-block-policy-text": (
        Expected(turn=True, images=(), text="I'm really sorry you're feeling this much anger."),
    ),
    "responses-moderation-scores-text": (Expected(turn=True, images=(), text=" "),),
    "responses-previous-response-id-text": (
        Expected(turn=True, text="Open sesame! What would you like to unlock?"),
        Expected(turn=True, at=1, text="sesame"),
    ),
    "responses-store-false-two-turn-condensed": (
        Expected(turn=True, broken=True),
        Expected(turn=True, at=1, text="It was red."),
    ),
    "responses-stream-one-partial": (Expected(turn=True, previews=1, broken=True),),
    "responses-tool-choice-required-gpt-5-4": (
        Expected(turn=True, options={"extra": {"tool_choice": "required"}}, broken=True),
    ),
    "responses-tool-offered-but-no-image": (
        Expected(
            turn=True,
            options={"extra": {"tool_choice": "auto"}},
            text='{"species":"axolotl","name":"Axel"}',
        ),
    ),
    "responses-two-turn-generate-then-edit-whole-images": (
        Expected(turn=True, images=_square("png")),
        Expected(turn=True, at=1, images=_square("png")),
    ),
    "responses-two-turn-generate-then-edit": (
        Expected(turn=True, broken=True),
        Expected(turn=True, at=1, broken=True),
    ),
}

LEFT_OUT: dict[str, str] = {
    "error-400-dall-e-3-retired": "diptych raises RetiredModel and sends nothing",
    "error-400-empty-prompt": "diptych refuses an empty prompt and sends nothing",
    "images-generate-dall-e-2-url-2023-historic": "an answer by URL of a retired model; the link is "
    "signed and has expired, and nothing behind it was recorded",
}
