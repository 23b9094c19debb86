"""The plug-in keeps diptych's contract, on a loopback peer that speaks the API of the web UI."""

from __future__ import annotations

import base64
import io

from diptych_webui import WebUIProvider
from PIL import Image as Pillow

from diptych import ImageClient
from diptych.testing import ProviderSuite
from diptych.testing.peers import Peer, Reply, Request


class WebUIPeer(Peer):
    paid = frozenset({"paint"})

    def classify(self, request: Request) -> str:
        return "paint" if request.path.startswith("/sdapi/v1/") else "other"

    def respond(self, request: Request) -> Reply:
        login = base64.b64encode(self.key.encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            return Reply(401, data=self.error_body(401))
        asked = request.json
        size = asked.get("width", 512), asked.get("height", 512)
        seeds = (asked.get("seed", 0) + k for k in range(asked.get("batch_size", 1)))
        return Reply(data={"images": [painted(size, seed) for seed in seeds]})

    def error_body(self, status: int) -> object:
        return {"error": "HTTPException", "detail": "told to fail", "body": "", "errors": ""}


def painted(size: tuple[int, int], seed: int) -> str:
    file = io.BytesIO()
    Pillow.new("RGB", size, (seed % 256, seed // 256 % 256, 90)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class TestWebUI(ProviderSuite):
    provider = WebUIProvider
    peer = WebUIPeer


def test_it_is_found_by_its_name():
    key = "me:secret"
    with (
        WebUIPeer(key=key) as peer,
        ImageClient("webui/current", base_url=peer.base_url, api_key=key) as client,
    ):
        result = client.generate("a fox", size="256x128", seed=5, n=2)
    assert [image.size for image in result.images] == [(256, 128)] * 2
    assert [image.seed for image in result.images] == [5, 6]
    assert peer.last("paint").json["batch_size"] == 2
