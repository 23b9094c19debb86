"""What of a prompt a stock pipeline does not read: its words are counted as the pipeline puts them.

Some pipelines set a prompt in a conversation or behind words of their own, which count too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["cut_off"]


def cut_off(pipe: Any, tokenizer: Any, words: str, limit: int, *, negative: bool = False) -> str:
    """The end of `words` that `pipe` does not read when its text has `limit` tokens; "" for none.

    `negative` tells that they are a negative prompt, which is not always put as a prompt is.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not words:
        return ""
    text = _conversation(pipe, tokenizer, words)
    if text is not None:
        text = text[: text.rindex(words) + len(words)]  # what follows is not the caller's
    else:
        limit -= tokenizer.num_special_tokens_to_add()
        text = words if negative else _introduced(pipe, words)
    tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return str(tokenizer.decode(tokens[limit:], skip_special_tokens=True)).strip()


def _introduced(pipe: Any, words: str) -> str:
    """A prompt behind the words that the pipeline says first."""
    if type(pipe).__name__ == "Lumina2Pipeline":
        return f"{pipe.system_prompt} <Prompt Start> {words}"
    return words


def _conversation(pipe: Any, tokenizer: Any, words: str) -> str | None:
    """A prompt as the model's own conversation, special tokens included; None where it is none."""
    kind = type(pipe).__name__
    if kind == "ZImageOmniPipeline":
        return f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
    turns: list[dict[str, Any]] = [{"role": "user", "content": words}]
    settings: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": False}
    if kind == "Flux2Pipeline":
        told = {"role": "system", "content": [{"type": "text", "text": pipe.system_message}]}
        turns = [told, {"role": "user", "content": [{"type": "text", "text": words}]}]
        settings = {"add_generation_prompt": False}
    elif not kind.startswith("Flux2Klein"):
        return None
    return str(tokenizer.apply_chat_template(turns, tokenize=False, **settings))
