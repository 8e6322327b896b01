"""This process's client for the providers' APIs: one for each event loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from voicews.exceptions import CallFailed
from voicews.telephony import ApiClient, ApiRequest, ApiResult

# Making one reads all certificates, which would hold up every call on the loop.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, ApiClient] = WeakKeyDictionary()


def api_client() -> ApiClient:
    """The running loop's client. Raises `ConfigurationError` if the package for it is missing."""
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        client = _clients[loop] = ApiClient()
    return client


async def request(wanted: ApiRequest) -> ApiResult:
    """Have a provider do something. Raises `CallFailed` if it doesn't."""
    result = await api_client().send(wanted)
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
