"""The Responses API of the OpenAI peer: the image_generation tool, its state and its stream.

Answers are kept under their id unless the request says `store: false`; what is not kept cannot be
named later, neither by `previous_response_id` nor by the id of an `image_generation_call`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from PIL import Image

from .openai_events import NO_TOKENS, response_events
from .openai_images import Job, encoded, read_mask, read_picture, usage
from .openai_rules import CHAT_MODELS, DEFAULT_MODEL, check, refuse
from .wire import Reply, Seen

__all__ = ["Conversations"]

PARAMETERS = frozenset(
    [
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
CHOICES = ("none", "auto", "required")


@dataclass(frozen=True)
class Turn:
    """What the input of a request comes to."""

    prompt: str
    pictures: tuple[bytes, ...]


@dataclass
class Conversations:
    """The stored responses and pictures; `fetch` resolves a data URL, a file id or a URL."""

    fetch: Callable[[Any, str], bytes]

    def __post_init__(self) -> None:
        self._pictures: dict[str, bytes] = {}
        self._responses: dict[str, tuple[bytes, ...]] = {}
        self._made = 0

    def respond(
        self,
        given: Mapping[str, Any],
        *,
        created: int,
        today: date,
        text: str,
        image: bytes | None,
    ) -> tuple[Reply, Seen | None]:
        """The answer to one POST /v1/responses, and what was understood of its pictures."""
        _check(given, today)
        tool = _image_tool(given, today)
        turn = self._read(given)
        self._made += 1
        job = self._job(tool, turn, given, image) if tool is not None else None
        if job is not None and _wants_no_picture(given, turn.prompt):
            job = None
        store = given.get("store") is not False
        name = hashlib.sha256(b"%d" % self._made).hexdigest()[:48]
        output = _output(job, name, text)
        if store:
            pictures = turn.pictures
            if job is not None:
                pictures += (job.paint(),)
                self._pictures[f"ig_{name}"] = pictures[-1]
            self._responses[f"resp_{name}"] = pictures
        response = _document(given, tool, job, name, output, created)
        seen = None if job is None else job.seen
        if not given.get("stream"):
            return Reply(data=response), seen
        partials = (tool or {}).get("partial_images") or 0
        return Reply(events=tuple(response_events(response, job, partials))), seen

    def _read(self, given: Mapping[str, Any]) -> Turn:
        pictures: list[bytes] = []
        if (previous := given.get("previous_response_id")) is not None:
            if previous not in self._responses:
                raise refuse(
                    f"Previous response with id '{previous}' not found.",
                    "previous_response_id",
                    code="previous_response_not_found",
                )
            pictures += self._responses[previous]
        items = given.get("input")
        if isinstance(items, str):
            return Turn(items, tuple(pictures))
        prompt = ""
        for index, item in enumerate(items or ()):
            kind = item.get("type", "message")
            if kind == "image_generation_call":
                pictures.append(self._called(item))
            elif kind == "message":
                said = self._message(item, index, pictures)
                prompt = said if item.get("role") == "user" and said else prompt
        return Turn(prompt, tuple(pictures))

    def _called(self, item: Mapping[str, Any]) -> bytes:
        name = item.get("id")
        if name not in self._pictures:
            raise refuse(
                f"Item with id '{name}' not found. Items are not persisted when `store` is set to "
                "false. Try again with `store` set to true, or remove this item from your input.",
                "input",
                code=None,
                status=404,
            )
        return self._pictures[str(name)]

    def _message(self, item: Mapping[str, Any], index: int, pictures: list[bytes]) -> str:
        content = item.get("content", "")
        if isinstance(content, str):
            return content
        words: list[str] = []
        for place, part in enumerate(content):
            param = f"input[{index}].content[{place}]"
            kind = part.get("type")
            if kind == "input_image":
                data = self.fetch(part, f"{param}.image_url")
                read_picture(data, f"{param}.image_url")
                pictures.append(data)
            elif kind in ("input_text", "output_text"):
                words.append(part.get("text", ""))
            else:
                message = (
                    f"Invalid value: '{kind}'. Supported values are: 'input_text', 'input_image', "
                    "'output_text'."
                )
                raise refuse(message, f"{param}.type")
        return " ".join(words)

    def _job(
        self, tool: Mapping[str, Any], turn: Turn, given: Mapping[str, Any], image: bytes | None
    ) -> Job:
        action = tool.get("action") or "auto"
        sources: tuple[Image.Image, ...] = ()
        if action != "generate":
            # The latest picture is the one that is edited; the others are references.
            latest_first = reversed(turn.pictures)
            sources = tuple(read_picture(data, "input") for data in latest_first)
        if action == "edit" and not sources:
            raise refuse("The action 'edit' needs an input image.", "tools[0].action")
        mask = None
        if (reference := tool.get("input_image_mask")) is not None:
            if not sources:
                raise refuse("A mask needs an input image.", "tools[0].input_image_mask")
            param = "tools[0].input_image_mask.image_url"
            mask = read_mask(self.fetch(reference, param), sources[0], param)
        return Job(turn.prompt, tool, sources, mask, image)


def _check(given: Mapping[str, Any], today: date) -> None:
    for name in given:
        if name not in PARAMETERS:
            raise refuse(f"Unknown parameter: '{name}'.", name, code="unknown_parameter")
    for name in ("model", "input"):
        if given.get(name) in (None, "", []):
            message = f"Missing required parameter: '{name}'."
            raise refuse(message, name, code="missing_required_parameter")
    model = given["model"]
    end = CHAT_MODELS.get(model)
    if model not in CHAT_MODELS or (end is not None and end <= today):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise refuse(message, status=404, code="model_not_found")
    items = given["input"]
    if not isinstance(items, str) and not all(isinstance(item, dict) for item in items):
        raise refuse("Invalid type for 'input'.", "input", code="invalid_type")


def _image_tool(given: Mapping[str, Any], today: date) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    for index, tool in enumerate(given.get("tools") or ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "image_generation":
            check(tool, "tool", today=today, prefix=f"tools[{index}].")
            found = tool
        elif kind is None:
            param = f"tools[{index}].type"
            message = f"Missing required parameter: '{param}'."
            raise refuse(message, param, code="missing_required_parameter")
    choice = given.get("tool_choice", "auto")
    if isinstance(choice, str) and choice not in CHOICES:
        raise refuse(f"Invalid value: '{choice}'.", "tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "image_generation" and found is None:
        message = "Tool choice 'image_generation' not found in 'tools' parameter."
        raise refuse(message, "tool_choice")
    return None if choice == "none" else found


def _wants_no_picture(given: Mapping[str, Any], prompt: str) -> bool:
    """The chat model only talks when the user says so and the tool is not forced."""
    if given.get("tool_choice", "auto") != "auto":
        return False
    return "without generating" in prompt.lower()


def _output(job: Job | None, name: str, text: str) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = [
        {"id": f"rs_{name}", "type": "reasoning", "content": [], "summary": []}
    ]
    if job is not None:
        output.append(
            {
                "id": f"ig_{name}",
                "type": "image_generation_call",
                "status": "completed",
                "action": "edit" if job.sources else "generate",
                "background": job.background,
                "output_format": job.form,
                "quality": job.quality,
                "result": encoded(job.paint()),
                "revised_prompt": f"{job.prompt} (as the peer paints it)",
                "size": job.size_text,
            }
        )
    output.append(
        {
            "id": f"msg_{name}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
        }
    )
    return output


def _document(
    given: Mapping[str, Any],
    tool: Mapping[str, Any] | None,
    job: Job | None,
    name: str,
    output: list[dict[str, Any]],
    created: int,
) -> dict[str, Any]:
    tools = [
        _echo(tool) if tool is not None and one.get("type") == "image_generation" else one
        for one in given.get("tools") or ()
    ]
    words = len(str(given["input"]).split())
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "background": False,
        "billing": {"payer": "developer"},
        "completed_at": created + 1,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "max_tool_calls": given.get("max_tool_calls"),
        "model": given["model"],
        "moderation": None,
        "output": output,
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": given.get("previous_response_id"),
        "prompt_cache_key": given.get("prompt_cache_key"),
        "prompt_cache_retention": given.get("prompt_cache_retention", "in_memory"),
        "reasoning": {"effort": "medium", "summary": None, **(given.get("reasoning") or {})},
        "safety_identifier": given.get("safety_identifier"),
        "service_tier": "default",
        "store": given.get("store") is not False,
        "temperature": given.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": given.get("tool_choice", "auto"),
        "tool_usage": {
            "image_gen": NO_TOKENS if job is None else usage(job),
            "web_search": {"num_requests": 0},
        },
        "tools": tools,
        "top_logprobs": 0,
        "top_p": given.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": 2000 + words,
            "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
            "output_tokens": 80,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 2080 + words,
        },
        "user": given.get("user"),
        "metadata": given.get("metadata") or {},
    }


def _echo(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as the response repeats it, with the defaults of the service."""
    defaults = {
        "type": "image_generation",
        "background": "auto",
        "model": DEFAULT_MODEL,
        "moderation": "auto",
        "n": 1,
        "output_compression": 100,
        "output_format": "png",
        "quality": "auto",
        "size": "auto",
    }
    return {name: tool.get(name) or value for name, value in defaults.items()}
