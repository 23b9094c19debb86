"""Loopback peers: servers on real sockets that speak the wire formats of OpenAI and fal.

    from diptych.testing.peers import FalPeer, OpenAIPeer, reset, silence, status

    with OpenAIPeer() as peer:
        peer.fault(reset(), on="generate", times=1)
        ...
        assert peer.paid_posts == 1
        assert peer.last("edit").seen.change == 0.25    # how much the service will repaint

They validate requests as the real services do, paint deterministic pictures of the size and format
asked for, write down what they were asked, and fail on demand: see `faults`, `streams` and
`refusals` for one function per fault. They need Pillow; `tls=True` also needs `trustme`, and
webhook signatures need `cryptography`.
"""

from __future__ import annotations

from .fal import FalPeer
from .faults import (
    Exchange,
    Fault,
    bomb_picture,
    corrupt_picture,
    drop,
    empty_picture,
    endless_picture,
    foreign,
    html,
    missing,
    other_picture,
    picture,
    rate_limited,
    redirect,
    reset,
    silence,
    status,
    trickle,
    truncated_json,
    wrong_base64,
)
from .openai import OpenAIPeer
from .refusals import (
    balance_exhausted,
    billing_limit,
    failed_call,
    failed_response,
    incomplete_response,
    moderation_blocked,
    nsfw,
    policy_violation,
    quota_exhausted,
    stuck,
)
from .server import On, Peer, Planted, Stranger
from .streams import (
    azure_stream,
    duplicated_events,
    flat_error_event,
    json_for_stream,
    nested_error_event,
    shuffled_partials,
    unknown_event,
    unterminated,
)
from .unreachable import UNRESOLVABLE, untrusted_tls, unused_port
from .wire import Event, Reply, Request, Seen, Upload

__all__ = [
    "UNRESOLVABLE",
    "Event",
    "Exchange",
    "FalPeer",
    "Fault",
    "On",
    "OpenAIPeer",
    "Peer",
    "Planted",
    "Reply",
    "Request",
    "Seen",
    "Stranger",
    "Upload",
    "azure_stream",
    "balance_exhausted",
    "billing_limit",
    "bomb_picture",
    "corrupt_picture",
    "drop",
    "duplicated_events",
    "empty_picture",
    "endless_picture",
    "failed_call",
    "failed_response",
    "flat_error_event",
    "foreign",
    "html",
    "incomplete_response",
    "json_for_stream",
    "missing",
    "moderation_blocked",
    "nested_error_event",
    "nsfw",
    "other_picture",
    "picture",
    "policy_violation",
    "quota_exhausted",
    "rate_limited",
    "redirect",
    "reset",
    "shuffled_partials",
    "silence",
    "status",
    "stuck",
    "trickle",
    "truncated_json",
    "unknown_event",
    "unterminated",
    "untrusted_tls",
    "unused_port",
    "wrong_base64",
]
