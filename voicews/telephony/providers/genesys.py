"""Genesys Cloud: the Audio Connector's signed upgrade. It sends no webhooks and takes no orders.

Source: the AudioHook pages of developer.genesys.cloud (security) and draft-ietf-httpbis-message-
signatures-11.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from voicews.exceptions import ConfigurationError, NotAllowed
from voicews.serializers.genesys import GenesysSerializer
from voicews.telephony.providers.base import (
    CallEvent,
    NotSupported,
    Provider,
    Request,
    StreamTarget,
    WebhookResponse,
)
from voicews.telephony.providers.options import option
from voicews.telephony.providers.signatures import NonceMemory, same, with_and_without_port

#: The age (seconds) up to which a signature is taken, and how far the clocks may differ.
MAX_AGE_SECS: Final = 10
MAX_SKEW_SECS: Final = 3
MIN_NONCE_LENGTH: Final = 22
MAX_HEADER_LENGTH: Final = 4096

REQUIRED_COMPONENTS: Final = frozenset(
    [
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    ]
)

# One signature, as Genesys sends it: sig1=("name" ...);key="text";key=123
_INPUT = re.compile(r'([a-z*][a-z0-9_.*-]*)=(\(("[a-z0-9@-]+"(?: "[a-z0-9@-]+")*)\)((?:;[^;]+)*))')
_PARAMETER = re.compile(r';([a-z]+)=(?:"([\x20-\x21\x23-\x5b\x5d-\x7e]*)"|(\d{1,15}))')
_SIGNATURE = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]+):")


@dataclass(frozen=True, kw_only=True)
class Genesys(Provider):
    """An Audio Connector integration."""

    name = "genesys"
    sends_webhooks = False

    api_key: str = option("the integration's", required=True)
    client_secret: str = option("the integration's, in base64", required=True, secret=True)
    packet_secs: float = option("the audio in a message, 0.2 to 3", 0.25)
    supported_languages: str = option("that the flow may change to, such as en-US, de-DE")
    start_paused: bool = option("whether the caller's audio waits for our resume", default=False)
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    _nonces: NonceMemory = field(default_factory=NonceMemory, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            b64decode(self.client_secret, validate=True)
        except ValueError:
            raise ConfigurationError("client_secret: expected base64") from None

    def new_serializer(self) -> GenesysSerializer:
        languages = [one.strip() for one in self.supported_languages.split(",") if one.strip()]
        return GenesysSerializer(
            packet_secs=self.packet_secs,
            supported_languages=languages,
            start_paused=self.start_paused,
        )

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        raise NotAllowed("Genesys sends no webhooks")

    def verify_upgrade(self, request: Request) -> None:
        components, parameters, signed_parameters, signature = _read_signature(request)
        if missing := REQUIRED_COMPONENTS.difference(components):
            raise NotAllowed(f"the signature doesn't cover {', '.join(sorted(missing))}")
        self._check_parameters(request, parameters)
        # Which form of the host a proxy passes on isn't Genesys's choice: ours is configured.
        authorities = [
            url.partition("://")[2].partition("/")[0]
            for url in with_and_without_port(self.public_url)
        ]
        public_path = urlsplit(self.public_url).path
        contents = [
            _signed_content(request, authority, public_path, components, signed_parameters)
            for authority in authorities
        ]
        matches = [same(signature, self._sign(content)) for content in contents]
        if not any(matches):
            raise NotAllowed("the signature is wrong")
        # Only now: a stranger must not be able to use up nonces.
        self._nonces.use(str(parameters["nonce"]), self.clock())

    def upgrade_nonce(self, request: Request) -> str:
        _components, parameters, _signed, _signature = _read_signature(request)
        return str(parameters["nonce"])

    def _sign(self, content: str) -> str:
        key = b64decode(self.client_secret)
        return hmac.digest(key, content.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _check_parameters(self, request: Request, parameters: Mapping[str, str | int]) -> None:
        key_id = str(parameters.get("keyid", ""))
        if not same(key_id, self.api_key) or not same(request.header("x-api-key"), self.api_key):
            raise NotAllowed("the API key is missing or another one")
        if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
            raise NotAllowed("the signature isn't made with hmac-sha256")
        if len(str(parameters.get("nonce", ""))) < MIN_NONCE_LENGTH:
            raise NotAllowed(f"expected a nonce of {MIN_NONCE_LENGTH} or more characters")
        created, expires = parameters.get("created"), parameters.get("expires")
        if not isinstance(created, int) or not isinstance(expires, int | None):
            raise NotAllowed("expected the times created and expires as numbers")
        now = self.clock()
        if created > now + MAX_SKEW_SECS:
            raise NotAllowed("signed in the future")
        if now > created + MAX_AGE_SECS + MAX_SKEW_SECS:
            raise NotAllowed(f"signed more than {MAX_AGE_SECS} s ago")
        if expires is not None and now > expires + MAX_SKEW_SECS:
            raise NotAllowed("the signature has expired")

    # --- webhooks -------------------------------------------------------------------------------

    def parse_webhook(self, request: Request) -> CallEvent:
        raise NotSupported("Genesys sends no webhooks")

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        raise NotSupported("Genesys opens the stream by itself, at the URL of the integration")


def _read_signature(
    request: Request,
) -> tuple[list[str], dict[str, str | int], str, str]:
    """The covered components, the parameters, both as they are signed, and the signature in hex."""
    found_input = request.header("signature-input")
    found = request.header("signature")
    if not found_input or not found:
        raise NotAllowed("Signature or Signature-Input is missing")
    if len(found_input) > MAX_HEADER_LENGTH or len(found) > MAX_HEADER_LENGTH:
        raise NotAllowed("Signature or Signature-Input is too long")
    match = _INPUT.fullmatch(found_input)
    signature = _SIGNATURE.fullmatch(found)
    if match is None or signature is None or match[1] != signature[1]:
        raise NotAllowed("Signature or Signature-Input can't be read")
    components = [component.strip('"') for component in match[3].split(" ")]
    if len(set(components)) != len(components):
        raise NotAllowed("a component is covered twice")
    parameters: dict[str, str | int] = {}
    position = 0
    for parameter in _PARAMETER.finditer(match[4]):
        if parameter.start() != position or parameter[1] in parameters:
            raise NotAllowed("the signature's parameters can't be read")
        position = parameter.end()
        parameters[parameter[1]] = int(parameter[3]) if parameter[3] else parameter[2]
    if position != len(match[4]):
        raise NotAllowed("the signature's parameters can't be read")
    try:
        raw = b64decode(signature[2], validate=True)
    except ValueError:
        raise NotAllowed("the signature isn't base64") from None
    return components, parameters, match[2], raw.hex()


def _signed_content(
    request: Request,
    authority: str,
    public_path: str,
    components: list[str],
    signed_parameters: str,
) -> str:
    lines = []
    for component in components:
        if component == "@request-target":
            value = request.url(public_path)
        elif component == "@authority":
            value = authority.lower()
        elif component.startswith("@"):
            raise NotAllowed(f"no such component as {component}")
        else:
            value = request.header(component)
            if not value:
                raise NotAllowed(f"the header {component} is covered, and missing")
        lines.append(f'"{component}": {value}')
    lines.append(f'"@signature-params": {signed_parameters}')
    return "\n".join(lines)
