"""This process's client for the providers' APIs: one for each event loop."""

from __future__ import annotations

import asyncio
import importlib
import threading
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from voicews.conf import settings
from voicews.exceptions import CallFailed
from voicews.telephony import ApiClient, ApiRequest, ApiResult

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[ApiClient]] = (
    WeakKeyDictionary()
)

#: What providers and their client import at first use, which takes a tenth of a second or more.
_LAZY_MODULES: Final = (
    "httpx2",
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.hashes",
    "cryptography.hazmat.primitives.serialization",
)


def preload() -> threading.Thread | None:
    """Import in a thread what a call would import on the event loop; without providers nothing."""
    if not settings.PROVIDERS:
        return None
    thread = threading.Thread(target=_import_lazy_modules, name="voicews-preload", daemon=True)
    thread.start()
    return thread


def _import_lazy_modules() -> None:
    with suppress(ImportError):  # a system check says so
        for name in _LAZY_MODULES:
            importlib.import_module(name)


async def send(wanted: ApiRequest) -> ApiResult:
    """Ask something of a provider; the result says how that went.

    Raises `ConfigurationError` if the package for it is missing.
    """
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None or (client.done() and (client.cancelled() or client.exception())):
        # Making one imports a lot and reads all certificates: too long for the calls on the loop.
        client = _clients[loop] = loop.run_in_executor(None, ApiClient)
    return await (await asyncio.shield(client)).send(wanted)


async def request(wanted: ApiRequest) -> ApiResult:
    """Have a provider do something. Raises `CallFailed` if it doesn't."""
    result = await send(wanted)
    if not result.ok:
        raise CallFailed(f"{wanted.action}: {describe(result)}")
    return result


def describe(result: ApiResult) -> str:
    """How a request went, in a line."""
    parts = [result.outcome.value]
    if result.status is not None:
        parts.append(f"status {result.status}")
    if result.error:
        parts.append(f"error {ascii(result.error)[1:-1]}")
    return ", ".join(parts)
