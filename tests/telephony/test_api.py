"""What is kept off the event loop: the providers' HTTP client, and large imports."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

import voicews.telephony.providers
from voicews.telephony import ApiRequest, ApiResult, Outcome, api


class Client:
    """Notes in which thread it was made."""

    made_in: list[int]

    def __init__(self) -> None:
        self.made_in.append(threading.get_ident())

    async def send(self, wanted: ApiRequest) -> ApiResult:
        return ApiResult(outcome=Outcome.DONE)


async def test_the_client_is_made_once_and_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    Client.made_in = []
    monkeypatch.setattr(api, "ApiClient", Client)
    wanted = ApiRequest(method="POST", url="https://api.example/", action="hang up")
    assert (await api.send(wanted)).ok
    assert (await api.send(wanted)).ok
    (thread,) = Client.made_in
    assert thread != threading.get_ident()


def test_imports_of_providers_are_made_when_the_server_is_ready(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: dict[str, int] = {}
    monkeypatch.setattr(
        api.importlib,  # type: ignore[attr-defined]
        "import_module",
        lambda name: imported.setdefault(name, threading.get_ident()),
    )
    settings.VOICEWS = {"PROVIDERS": {}}
    assert api.preload() is None
    settings.VOICEWS = {"PROVIDERS": {"twilio": {"account_sid": "AC1", "auth_token": "hush"}}}
    thread = api.preload()
    assert thread is not None
    thread.join(10)
    assert threading.get_ident() not in imported.values()
    # All that a provider imports in a function.
    late = r"^ +(?:from (cryptography\S*) import|import (httpx2)$)"
    for path in Path(voicews.telephony.providers.__file__).parent.glob("*.py"):
        for match in re.finditer(late, path.read_text(), re.MULTILINE):
            module = match[1] or match[2]
            assert any(name.startswith(module) for name in imported), (path.name, module)


def test_a_server_asks_for_them() -> None:
    from voicews.servers.readiness import _server

    assert api.preload in _server._callbacks or _server._is_ready
