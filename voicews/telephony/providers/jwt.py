"""JSON Web Tokens as far as Vonage needs them: HS256 checked, RS256 made (RFC 7519)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from voicews.exceptions import ConfigurationError, NotAllowed

MAX_TOKEN_LENGTH = 8192


def read_hs256(token: str, secret: str) -> Mapping[str, Any]:
    """The claims of a token that is signed with `secret`.

    Raises `NotAllowed` for any other token. The times among the claims are the caller's to check.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise NotAllowed("no token of three parts")
    # Before the header is believed: nothing in an unsigned token is worth reading.
    expected = hmac.new(secret.encode(), f"{parts[0]}.{parts[1]}".encode(), hashlib.sha256)
    if not hmac.compare_digest(_encode(expected.digest()).encode(), parts[2].encode()):
        raise NotAllowed("the token's signature is wrong")
    if _decode(parts[0]).get("alg") != "HS256":
        raise NotAllowed("the token isn't signed with HS256")
    return _decode(parts[1])


def make_rs256(claims: Mapping[str, Any], private_key: str) -> str:
    """A token with these claims, signed with an RSA key (PEM); see `read_rsa_key`."""
    key = read_rsa_key(private_key)
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    content = f"{_encode_json({'alg': 'RS256', 'typ': 'JWT'})}.{_encode_json(claims)}"
    signature = key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{content}.{_encode(signature)}"


def read_rsa_key(private_key: str) -> Any:
    """The RSA key in a text (PEM).

    Raises `ConfigurationError` if the key can't be used or the package for it is missing.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError:
        raise ConfigurationError(
            "signing needs a package that is not installed: pip install 'voicews[telephony]'"
        ) from None
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise ConfigurationError("private_key: expected an RSA key in PEM format") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("private_key: expected an RSA key")
    return key


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _encode_json(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _decode(part: str) -> Mapping[str, Any]:
    try:
        value = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise NotAllowed("the token isn't JSON") from None
    if not isinstance(value, dict):
        raise NotAllowed("the token holds no object")
    return value
