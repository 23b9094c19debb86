"""`models`, `describe` and `providers`: facts from the cards, without key and network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from typing import Any

from ..cards import ModelCard, Option
from ..pricing import Pricing
from .terminal import clean, emit

__all__ = ["describe", "life", "models", "providers", "table"]


def models(provider: str | None, *, as_json: bool) -> None:
    """One line per known model."""
    from ..plugins import models as known

    cards = known(provider)
    if as_json:
        emit([card.to_dict() for card in cards])
        return
    rows = [
        (
            card.ref,
            str(card.paradigm),
            ", ".join(sorted(card.edits)) or "-",
            str(card.sizes),
            price(card.pricing),
            life(card, date.today()),
        )
        for card in cards
    ]
    table(("model", "paradigm", "edits", "sizes", "price", "lifecycle"), rows)


def describe(ref: str, *, as_json: bool) -> None:
    """Everything that is known of one model."""
    from ..plugins import describe as card_of

    card = card_of(ref)
    if as_json:
        emit(card.to_dict())
        return
    print(clean("\n".join(_lines(card))))


def providers(*, as_json: bool) -> None:
    """Every provider, with its version or with what to do to have it."""
    from ..plugins import providers as known

    infos = known()
    if as_json:
        emit([info.to_dict() for info in infos])
        return
    table(
        ("provider", "version", "state"),
        [(info.name, info.version or "-", info.problem or "installed") for info in infos],
    )


def price(pricing: Pricing | None) -> str:
    """The list price in a few words."""
    if pricing is None:
        return "unknown"
    named = {
        "a picture": pricing.per_image,
        "a megapixel": pricing.per_megapixel,
        "1M image tokens": pricing.image_out,
    }
    known = {unit: amount for unit, amount in named.items() if amount is not None}
    if not known:
        return "unknown"
    unit, amount = next(iter(known.items()))
    more = pricing.per_image_high if unit == "a picture" else None
    span = f"{amount} to {more}" if more not in (None, amount) else str(amount)
    return f"{span} {pricing.currency} {unit}"


def life(card: ModelCard, today: date) -> str:
    """Whether the model is gone, or when it goes, and what takes its place."""
    end, successor = card.lifecycle.shutdown, card.lifecycle.successor
    if end is None:
        return "-"
    instead = f", use {successor}" if successor else ""
    return f"RETIRED {end}{instead}" if end <= today else f"until {end}{instead}"


def _lines(card: ModelCard) -> list[str]:
    lines = [f"{card.ref}: {card.paradigm}{'' if card.known else ', not a model diptych knows'}"]
    if card.note:
        lines.append(f"  {card.note}")
    facts = {
        "generates": "yes"
        if card.generates
        else f"no, it needs a {'control image' if card.needs_control else 'picture'}",
        "edits": ", ".join(sorted(card.edits)) or "no",
        "sizes": str(card.sizes),
        "references": f"up to {card.max_references}" if card.max_references else "no",
        "per call": "as the model decides" if card.max_n is None else f"up to {card.max_n}",
        "streams": "yes" if card.streams else "no",
        "resumable": "yes" if card.resumable else "no",
        "price": price(card.pricing),
        "lifecycle": life(card, date.today()),
        "source": card.source or "unknown",
    }
    lines += [f"  {name:<11} {fact}" for name, fact in facts.items()]
    if card.options:
        lines.append("options:")
    width = max((len(name) for name in card.options), default=0)
    lines += [
        f"  {name:<{width}}  {_option(option)}" for name, option in sorted(card.options.items())
    ]
    return lines


def _option(option: Option) -> str:
    parts: list[str] = [option.support]
    if option.low is not None or option.high is not None:
        low, high = ("?" if each is None else f"{each:g}" for each in (option.low, option.high))
        parts.append(f"{low} to {high}")
    if option.choices:
        parts.append(f"one of {', '.join(map(str, option.choices))}")
    if option.default is not None:
        parts.append(f"default {option.default}")
    if option.note:
        parts.append(option.note)
    return "; ".join(parts)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table for a person; for a program, one line per row with tabs between the cells."""
    cells = [[clean(cell, line=True) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        gone = any(cell.startswith("RETIRED") for cell in row)
        grid.add_row(*map(Text, row), style="dim" if gone else None)
    Console().print(grid)
