"""Making and comparing signatures, and seeing each nonce only once."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable

from voicews.exceptions import NotAllowed

_DEFAULT_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


def same(left: str, right: str) -> bool:
    """Whether both are equal, in a time that doesn't tell where they differ."""
    return hmac.compare_digest(_bytes(left), _bytes(right))


def any_same(found: str, expected: Iterable[str]) -> bool:
    """Whether `found` is one of `expected`; all are looked at."""
    matches = [same(found, candidate) for candidate in expected]
    return any(matches)


def sign(key: str, content: str, algorithm: str = "sha256") -> str:
    """The HMAC of `content`, in base64."""
    return b64encode(hmac.digest(key.encode(), _bytes(content), algorithm)).decode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def with_and_without_port(url: str) -> list[str]:
    """`url` as it is, and with its scheme's port added or taken away."""
    # By hand: urlsplit would drop control characters, which a hostile path may have.
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    port = f":{_DEFAULT_PORTS[scheme]}"
    name = host.removesuffix(port)
    if ":" in name.rpartition("]")[2]:
        return [url]
    return [f"{scheme}://{netloc}{slash}{path}" for netloc in (name, name + port)]


def with_and_without_slash(url: str) -> list[str]:
    """`url`, which has no query, with and without a slash at its end."""
    bare = url.rstrip("/")
    return [bare, f"{bare}/"]


class NonceMemory:
    """Knows the nonces of the last while, so that what was signed once can't be sent twice.

    Holds `max_nonces` at the most: the oldest are forgotten first. Each process has its own, so
    this is a second line behind a token that is good for one call. Times are in seconds.
    """

    def __init__(self, max_age_secs: float = 600.0, max_nonces: int = 10_000) -> None:
        self._max_age_secs = max_age_secs
        self._max_nonces = max_nonces
        self._seen: OrderedDict[str, float] = OrderedDict()

    def use(self, nonce: str, now: float) -> None:
        """Remember `nonce`; raises `NotAllowed` if it was used before."""
        while self._seen:
            oldest = next(iter(self._seen))
            is_old = self._seen[oldest] + self._max_age_secs < now
            if not is_old and len(self._seen) < self._max_nonces:
                break
            del self._seen[oldest]
        if nonce in self._seen:
            raise NotAllowed("replayed: the nonce was used before")
        self._seen[nonce] = now
