"""Addresses that nobody serves, for the faults that need no peer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .openai import OpenAIPeer

__all__ = ["UNRESOLVABLE", "untrusted_tls", "unused_port"]

UNRESOLVABLE = "http://diptych-peer.invalid"
"""An origin whose name no DNS server resolves (RFC 2606)."""


@contextmanager
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections; nobody else can take it meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # bound but not listening: connecting is refused
        yield int(holder.getsockname()[1])


@contextmanager
def untrusted_tls() -> Iterator[str]:
    """The origin of a TLS server whose certificate is signed by an authority nobody trusts."""
    with OpenAIPeer(tls=True) as peer:
        yield peer.origin
