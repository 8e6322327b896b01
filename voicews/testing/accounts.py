"""Accounts for tests: secrets that everybody knows, good for nothing at a real provider."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from voicews.exceptions import ConfigurationError
from voicews.telephony import PROVIDERS

#: Telnyx signs with a key that only Telnyx has; this pair takes its place.
TELNYX_PRIVATE_KEY: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
TELNYX_PUBLIC_KEY: Final = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="

_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "twilio": {
        "account_sid": "AC00000000000000000000000000000000",
        "auth_token": "voicews-test-auth-token",
    },
    "telnyx": {
        "api_key": "KEY-voicews-test",
        "public_key": TELNYX_PUBLIC_KEY,
        "connection_id": "1234567890",
    },
    "plivo": {"auth_id": "MATESTTESTTESTTESTTE", "auth_token": "voicews-test-auth-token"},
    "exotel": {
        "username": "voicews",
        "password": "test-password",
        "account_sid": "voicews1",
        "api_key": "voicews-test-key",
        "api_token": "voicews-test-token",
    },
    "vonage": {
        "signature_secret": "voicews-test-signature-secret",
        "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    },
    "genesys": {
        "api_key": "voicews-test-api-key",
        "client_secret": "dm9pY2V3cy10ZXN0LWNsaWVudC1zZWNyZXQ=",
    },
}


def account_options(provider: str, api_url: str = "") -> dict[str, Any]:
    """The options of a test account, for VOICEWS["PROVIDERS"][provider].

    `api_url` is where its API is, such as `ProviderApi.url`. Raises `ConfigurationError` for a
    provider that there isn't.
    """
    if provider not in _OPTIONS:
        raise ConfigurationError(f"expected one of {', '.join(_OPTIONS)}, found {provider!r}")
    options: dict[str, Any] = dict(_OPTIONS[provider])
    if provider == "vonage":
        options["private_key"] = _rsa_key()
    if api_url and any(option.name == "api_url" for option in PROVIDERS[provider].options()):
        options["api_url"] = api_url
    return options


@cache
def _rsa_key() -> str:
    """Vonage's API takes tokens that are signed with a key of the project's: any one does here."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
