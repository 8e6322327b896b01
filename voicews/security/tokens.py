"""Signed tokens that open a session's socket. Each is bound to one session and lives for a while.

A connect token comes from the connect endpoint and lives just long enough to be used; a resume
token comes with each ``bot-ready`` and lets the same client back in after a lost socket. They are
signed with SECRET_KEY (and its fallbacks): nothing is stored, every server process can check them.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from uuid import UUID

from django.core.signing import BadSignature, SignatureExpired, TimestampSigner

from voicews.conf import settings
from voicews.exceptions import NotAllowed


class TokenKind(enum.Enum):
    """What a token was made for; the value is its salt."""

    CONNECT = "voicews.connect"
    RESUME = "voicews.resume"

    @property
    def max_age_secs(self) -> float:
        if self is TokenKind.CONNECT:
            return settings.TOKEN_MAX_AGE_SECS
        return settings.RESUME_TOKEN_MAX_AGE_SECS


# Django's default, a colon, gets escaped by some clients; a dot by none.
_SEPARATOR = "."

# A real token is some 80 characters long; more is not worth a signature check.
_MAX_LENGTH = 200


def _signer(kind: TokenKind) -> TimestampSigner:
    return TimestampSigner(salt=kind.value, sep=_SEPARATOR)


def issue_connect_token(session_id: UUID) -> str:
    """A token for a new session's first socket; URL-safe."""
    return _signer(TokenKind.CONNECT).sign(session_id.hex)


def issue_resume_token(session_id: UUID) -> str:
    """A token for the next socket of a session that a client already held; URL-safe."""
    return _signer(TokenKind.RESUME).sign(session_id.hex)


def check_token(token: str | None, session_id: UUID) -> TokenKind:
    """What the token was made for. Raises NotAllowed with the reason if it can't be used."""
    if not token:
        raise NotAllowed("token missing")
    if len(token) > _MAX_LENGTH:
        raise NotAllowed("token not valid")
    for kind in TokenKind:
        try:
            value = _signer(kind).unsign(token, max_age=timedelta(seconds=kind.max_age_secs))
        except SignatureExpired:
            raise NotAllowed("token expired") from None
        except BadSignature:
            continue
        if value != session_id.hex:
            raise NotAllowed("token is for another session")
        return kind
    raise NotAllowed("token not valid")
