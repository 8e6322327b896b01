"""Tokens of phone calls: letters and digits only, because that passes at every provider.

Made of the session's id, the time of expiry and a signature with SECRET_KEY: 32, 8 and 40
hexadecimal digits. What makes a socket's token good for one use is the session, which begins once.
"""

from __future__ import annotations

import enum
import re
import time
from uuid import UUID

from django.conf import settings as django_settings
from django.utils.crypto import constant_time_compare, salted_hmac

from voicews.exceptions import NotAllowed

_TOKEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{8})([0-9a-f]{40})")


class Purpose(enum.Enum):
    """What a token was made for; the value is its salt."""

    #: Opens a call's socket.
    STREAM = "voicews.phone.stream"
    #: Tells which session the webhooks of a call that we placed are about.
    CALL = "voicews.phone.call"


def issue_phone_token(
    purpose: Purpose, provider: str, session_id: UUID, lifetime_secs: float
) -> str:
    """A token that is good for so long (seconds), for this provider and this session."""
    content = f"{session_id.hex}{int(time.time() + lifetime_secs):08x}"
    return content + _sign(purpose, provider, content, django_settings.SECRET_KEY)


def check_phone_token(purpose: Purpose, provider: str, token: str) -> UUID:
    """The session that the token is for. Raises `NotAllowed` with the reason if it is no good."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise NotAllowed("token missing" if not token else "token not valid")
    content = match[1] + match[2]
    keys = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    if not any(constant_time_compare(match[3], _sign(purpose, provider, content, k)) for k in keys):
        raise NotAllowed("token not valid")
    if int(match[2], 16) < time.time():
        raise NotAllowed("token expired")
    return UUID(match[1])


def _sign(purpose: Purpose, provider: str, content: str, key: str | bytes) -> str:
    mac = salted_hmac(purpose.value, f"{provider}:{content}", secret=key, algorithm="sha256")
    return mac.hexdigest()[:40]
