"""Which addresses may have the key, serve pictures and take uploads."""

from __future__ import annotations

import httpx
import pytest
from diptych_fal.hosts import Hosts
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import ConfigurationError

FAL, OWN = Hosts.of(None), Hosts.of("http://127.0.0.1:9000/")
BASE = httpx.URL("http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "url",
    [
        "https://queue.fal.run/a/b",
        "https://fal.run/a/b",
        "https://QUEUE.FAL.RUN:443/a",
        "https://queue.falrun.com/a",
        "https://rest.fal.ai/storage",
        "https://api.fal.ai/v1",
    ],
)
def test_fals_hosts_may_have_the_key(url: str) -> None:
    assert FAL.may_have_key(httpx.URL(url), None)


@pytest.mark.parametrize(
    "url",
    [
        "http://queue.fal.run/a",
        "https://queue.fal.run:8443/a",
        "https://queue.fal.run@evil.example/a",
        "https://me@queue.fal.run/a",
        "https://fal.run.evil.example/a",
        "https://evilfal.run/a",
        "https://v3.fal.media/a",
        "https://fal.ai/a",
        "https://127.0.0.1/a",
        "file:///etc/passwd",
        "/relative",
    ],
)
def test_nobody_else_may_have_the_key(url: str) -> None:
    assert not FAL.may_have_key(httpx.URL(url), None)


@given(st.from_regex(r"[a-z0-9-]{1,12}(\.[a-z0-9-]{1,12}){0,3}", fullmatch=True))
def test_a_host_that_merely_looks_like_fals_has_no_key(host: str) -> None:
    for fake in (f"{host}fal.run", f"fal.run.{host}", f"{host}.fal.run.x"):
        if fake.endswith((".fal.run", ".falrun.com")) or fake == "fal.run":
            continue
        try:
            url = httpx.URL(f"https://{fake}/")
        except httpx.InvalidURL:
            continue
        assert not FAL.may_have_key(url, None)
        assert not FAL.may_serve(url, None)


def test_a_server_of_ones_own_takes_the_place_of_every_host_of_fals() -> None:
    assert OWN.queue == OWN.rest == "http://127.0.0.1:9000"
    assert OWN.may_have_key(httpx.URL("http://127.0.0.1:9000/x"), BASE)
    for url in ("https://queue.fal.run/x", "http://127.0.0.1:9001/x", "http://localhost:9000/x",
                "https://127.0.0.1:9000/x", "http://u@127.0.0.1:9000/x"):  # fmt: skip
        assert not OWN.may_have_key(httpx.URL(url), BASE)


def test_pictures_come_over_https_from_where_fal_serves_them() -> None:
    for url in ("https://v3.fal.media/f", "https://v3b.fal.media/f", "https://fal.media/f"):
        assert FAL.may_serve(httpx.URL(url), None)
        assert OWN.may_serve(httpx.URL(url), BASE)
    for url in (
        "http://v3.fal.media/f",
        "https://evil.example/fal.media",
        "https://169.254.169.254/",
    ):
        assert not FAL.may_serve(httpx.URL(url), None)
    assert OWN.may_serve(httpx.URL("http://127.0.0.1:9000/f"), BASE)


def test_uploads_go_to_fals_store_only() -> None:
    assert FAL.may_store(httpx.URL("https://v3.fal.media"), None)
    assert not FAL.may_store(httpx.URL("https://evil.example"), None)
    assert not OWN.may_store(httpx.URL("https://v3.fal.media"), BASE)


@pytest.mark.parametrize("nonsense", ["https://k@fal.run", "https://a.b/?x=1"])
def test_a_base_url_has_no_user_and_no_query(nonsense: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        Hosts.of(nonsense)
