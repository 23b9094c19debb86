"""Captions cleaned as those were that LlamaGen was trained on. No torch."""

from __future__ import annotations

import html
import re

__all__ = ["cleaned"]

_REMOVED = re.compile(
    r"https?://\S+|www\.\S+"  # addresses
    r"|<[^<>]*>"  # tags
    r"|@[\w\d]+\b|#\d{1,5}\b"  # handles and numbered hashes
    r"|[^\w\s.,:;!?'\"()&%+\-/]"  # signs that captions were cleaned of
)
_QUOTES = str.maketrans(
    {"`": "'", "´": "'", "‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"'}
)
_DASHES = re.compile("[\u2010-\u2015\u2212\u2e3a\u2e3b]+")
_REPEATED = re.compile(r"([.,:;!?'\"\-/])\1+")


def cleaned(caption: str) -> str:
    """Lower case, without addresses, tags, handles and odd signs, as the model's captions were.

    Applied twice, since the first round may uncover what the second removes.
    """
    for _ in range(2):
        caption = html.unescape(html.unescape(caption)).lower().translate(_QUOTES)
        caption = _REMOVED.sub(" ", _DASHES.sub("-", caption))
        caption = _REPEATED.sub(r"\1", caption)
        caption = " ".join(caption.split()).strip(" .,:;-/")
    return caption
