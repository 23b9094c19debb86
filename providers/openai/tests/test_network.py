"""Connections of our own: TLS, large bodies in both directions, servers that hang up, proxies."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image
import pytest
from diptych_openai.network import transport

from diptych import AsyncImageClient, Image, ImageClient
from diptych.testing.peers import OpenAIPeer

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def noise(side: int) -> Image:
    return Image.of(PIL.Image.effect_noise((side, side), 90).convert("RGB"))


def client(peer: OpenAIPeer) -> ImageClient:
    return ImageClient("openai/gpt-image-2", api_key=peer.key, base_url=peer.base_url)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_large_pictures_go_and_come_whole(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    large = noise(1536)
    with OpenAIPeer(tls=tls, image=large.bytes) as peer:
        if tls:
            monkeypatch.setenv("SSL_CERT_FILE", str(peer.ca_file))
        with client(peer) as painter:
            assert painter.edit(large, "make it a raccoon").image.bytes == large.bytes
            assert painter.generate("a fox").image.bytes == large.bytes
            assert peer.last("edit").upload("image") == large.bytes


def test_a_connection_is_used_again() -> None:
    with OpenAIPeer() as peer, client(peer) as painter:
        for _ in range(3):
            painter.generate("a fox")
        assert peer.connections == 1


class Abrupt(BaseHTTPRequestHandler):
    """Says that the connection stays, and closes it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        text = noise(64).data_url().partition(",")[2]
        body = json.dumps({"data": [{"b64_json": text}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Abrupt) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1"
            with ImageClient("openai/any-model", api_key="key", base_url=url) as painter:
                for _ in range(3):
                    assert painter.generate("a fox").images
                    time.sleep(0.05)  # the server closes after its answer was read
        finally:
            server.shutdown()
            serving.join()


def test_many_requests_at_once_do_not_mix() -> None:
    async def draw(peer: OpenAIPeer) -> list[str]:
        async with AsyncImageClient(
            "openai/gpt-image-2", api_key=peer.key, base_url=peer.base_url
        ) as painter:
            results = await asyncio.gather(*(painter.generate(f"fox {k}") for k in range(24)))
            again = await painter.generate("fox 7")
            assert again.image == results[7].image
            return [result.image.sha256 for result in results]

    with OpenAIPeer() as peer:
        assert len(set(asyncio.run(draw(peer)))) == 24


def test_where_a_proxy_is_set_up_the_vendors_client_goes_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OpenAIPeer() as peer:
        monkeypatch.setenv("HTTP_PROXY", peer.origin)
        assert transport() is None
        with ImageClient(
            "openai/gpt-image-2", api_key=peer.key, base_url="http://pictures.invalid/v1"
        ) as painter:
            assert painter.generate("a fox").images  # the peer was asked in the name of another
