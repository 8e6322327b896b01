"""The VOICEWS setting: one dict in a project's settings, read once, checked and typed.

``settings`` is what the rest of the app uses: ``settings.DEFAULT_BOT``. It is read at its first
use, so importing this module needs no configured Django, and again when a test changes the setting.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.functional import Promise, SimpleLazyObject, empty
from django.utils.module_loading import import_string

from voicews.exceptions import ConfigurationError
from voicews.telephony import PROVIDERS

T = TypeVar("T")


class Policy(enum.Enum):
    """What happens to a client that joins a session which another one holds."""

    #: It wins.
    REPLACE = "replace"
    #: It is refused, unless the holder turns out to be gone.
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class BotSettings:
    """One entry of BOTS: where the class is, and what a page calls it (empty: the class knows)."""

    name: str
    path: str
    label: str = ""
    description: str = ""

    def load(self) -> type[Any]:
        """The bot's class. Raises ConfigurationError when the path leads nowhere."""
        return cast("type[Any]", load(self.path, f"BOTS: {self.name}"))


#: What timers, dates and the database's integers can take: up to ten years, and 32 bits.
MIN_SECS, MAX_SECS, MAX_COUNT = 0.001, 315_360_000, 2**31 - 1
#: A process beats several times in a lease, and others wait for one that was killed.
MIN_LEASE_SECS, MAX_LEASE_SECS = 1.0, 3600.0
# What Channels' OriginValidator takes: a scheme or none, a host, a port or none.
_ORIGIN = re.compile(r"([a-z][a-z\d+.-]*://)?([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?/?", re.IGNORECASE)
# No spaces and nothing that can't be shown, which no proxy and no provider takes.
_URL = re.compile(r"[^\s\\\x00-\x1f\x7f\ud800-\udfff]+")
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def load(path: str, key: str) -> Any:
    """What a dotted path names. Raises ConfigurationError that says which setting asked for it."""
    try:
        return import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"VOICEWS {key}: cannot import {path!r}: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"expected a string that is not empty, found {value!r}")
    return value


def _label(value: object) -> str:
    # A translation is looked up when a page shows it.
    return cast("str", value) if isinstance(value, Promise) else _text(value)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # an int of more than 4300 digits
        return "a number that is too long to show"


def _path(value: object) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise ConfigurationError(f"expected a dotted path such as 'app.bots.Bot', found {value!r}")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"expected a number of seconds, found {_shown(value)}")
    if not value > 0:
        raise ConfigurationError(f"expected more than 0 seconds, found {_shown(value)}")
    if not MIN_SECS <= value <= MAX_SECS:
        raise ConfigurationError(
            f"expected {MIN_SECS:g} to {MAX_SECS} seconds, found {_shown(value)}"
        )
    return float(value)


def _lease_seconds(value: object) -> float:
    seconds = _seconds(value)
    if not MIN_LEASE_SECS <= seconds <= MAX_LEASE_SECS:
        raise ConfigurationError(
            f"expected {MIN_LEASE_SECS:g} to {MAX_LEASE_SECS:g} seconds, found {_shown(value)}"
        )
    return seconds


def _seconds_or_none_at_all(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise ConfigurationError(
            f"expected a whole number from 1 to {MAX_COUNT}, found {_shown(value)}"
        )
    return value


def _policy(value: object) -> str:
    try:
        return Policy(value).value
    except ValueError:
        raise ConfigurationError(f"expected 'replace' or 'reject', found {value!r}") from None


def _origins(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(o, str) and o for o in value):
        raise ConfigurationError(
            f"expected a list of origins such as 'https://example.com', found {value!r}"
        )
    for origin in value:
        if origin != "*" and not _is_origin(origin):
            raise ConfigurationError(
                "expected an origin such as 'https://example.com', or 'https://.example.com' with "
                f"its subdomains, found {origin!r}"
            )
    return tuple(value)


def _is_origin(text: str) -> bool:
    if not _ORIGIN.fullmatch(text):
        return False
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range, an IPv6 address that is none
        return False


def _public_url(value: object) -> str:
    try:
        parts = urlsplit(_text(value))
        valid = (
            parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname and parts.port != 0
        )
    except ValueError:  # a port that is no number, an IPv6 address that is none
        valid = False
    if not valid or not _URL.fullmatch(parts.geturl()):
        raise ConfigurationError(f"expected a URL such as 'https://example.com', found {value!r}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("expected a URL without user, query and fragment")
    return parts.geturl().rstrip("/")


def _bots(value: object) -> Mapping[str, BotSettings]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected a dict of name -> class path, found {value!r}")
    return MappingProxyType({name: _bot(name, entry) for name, entry in value.items()})


def _bot(name: object, entry: object) -> BotSettings:
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= BOT_NAME_MAX_LENGTH
        or not name.isprintable()
    ):
        raise ConfigurationError(
            f"expected names of 1 to {BOT_NAME_MAX_LENGTH} characters that can be shown, "
            f"found {name!r}"
        )
    if not isinstance(entry, Mapping):
        return BotSettings(name, _path(entry))
    if unknown := sorted(map(str, entry.keys() - {"class", "label", "description"})):
        raise ConfigurationError(f"{name}: unknown keys {', '.join(unknown)}")
    if "class" not in entry:
        raise ConfigurationError(f"{name}: expected a key 'class' with the path of the bot")
    return BotSettings(
        name,
        _path(entry["class"]),
        label=_label(entry["label"]) if "label" in entry else "",
        description=_label(entry["description"]) if "description" in entry else "",
    )


def _providers(value: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected a dict of provider -> options, found {value!r}")
    return MappingProxyType({name: _provider(name, entry) for name, entry in value.items()})


def _provider(name: object, entry: object) -> Mapping[str, Any]:
    if name not in PROVIDERS:
        raise ConfigurationError(f"expected providers of {', '.join(PROVIDERS)}, found {name!r}")
    # No message shows the entry: it has credentials. Its options are the provider's to judge, in
    # voicews.checks and when it is made.
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{name}: expected a dict of options")
    return MappingProxyType(dict(entry))


def _optional(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else read(value)


def _key(default: Any, read: Callable[[object], Any]) -> Any:
    return field(default=default, metadata={"read": read})


# The width of VoiceSession.bot.
BOT_NAME_MAX_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class VoicewsSettings:
    """Every key that VOICEWS may have, with its default. Times are in seconds."""

    BOTS: Mapping[str, BotSettings] = field(
        default_factory=lambda: MappingProxyType({}), metadata={"read": _bots}
    )
    # None takes the first of BOTS.
    DEFAULT_BOT: str | None = _key(None, _optional(_text))
    # A function as in voicews.permissions.
    MAY_CONNECT: str = _key("voicews.permissions.authenticated", _path)
    # None follows ALLOWED_HOSTS; see voicews.security.origins.
    ALLOWED_ORIGINS: tuple[str, ...] | None = _key(None, _optional(_origins))
    # Where clients reach the sockets, when it is not where they reach the connect endpoint.
    PUBLIC_URL: str | None = _key(None, _optional(_public_url))
    TOKEN_MAX_AGE_SECS: float = _key(60.0, _seconds)
    RESUME_TOKEN_MAX_AGE_SECS: float = _key(12 * 3600.0, _seconds)
    # How long a session waits for a client that lost its socket; 0 ends it at once.
    RECONNECT_GRACE_SECS: float = _key(20.0, _seconds_or_none_at_all)
    # The longest that a session may last; None sets no limit.
    SESSION_TIMEOUT_SECS: float | None = _key(None, _optional(_seconds))
    # How long a connected client may say nothing at all; None sets no limit.
    IDLE_TIMEOUT_SECS: float | None = _key(None, _optional(_seconds))
    # What becomes of a client that wants a session which another one holds: "replace" lets it in
    # and closes the other with 4001; "reject" refuses it with 1013, unless the other is gone.
    TAKEOVER: str = _key("replace", _policy)
    # How long a server process may be silent before others may take its sessions over. It must be
    # the same in all of them.
    LEASE_SECS: float = _key(10.0, _lease_seconds)
    # Calls that a user may have at a time, and a server process; None sets no limit.
    MAX_SESSIONS_PER_USER: int | None = _key(None, _optional(_count))
    MAX_SESSIONS_PER_PROCESS: int | None = _key(None, _optional(_count))
    # How long running calls may go on after a SIGTERM; then they move to another process.
    DRAIN_TIMEOUT_SECS: float = _key(30.0, _seconds_or_none_at_all)
    # Telephony providers that are switched on, each with the options that its class in
    # voicews.telephony declares: {"twilio": {"account_sid": "...", ...}}.
    # They reach this server at PUBLIC_URL, which their signatures cover.
    PROVIDERS: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType({}), metadata={"read": _providers}
    )
    # How long a provider's socket may take to say which call it carries.
    CALL_START_TIMEOUT_SECS: float = _key(10.0, _seconds)

    def bot(self, name: str | None = None) -> BotSettings | None:
        """The bot of that name, or the default one; None when there is no such bot."""
        return self.BOTS.get(name or self.DEFAULT_BOT or next(iter(self.BOTS), ""))


def read(value: object) -> tuple[VoicewsSettings, list[str]]:
    """Settings from the value of VOICEWS, and what is wrong with it, one line for each key."""
    if not isinstance(value, Mapping):
        return VoicewsSettings(), [f"VOICEWS: expected a dict, found {value!r}"]
    known = {one.name: one for one in fields(VoicewsSettings)}
    problems = [f"VOICEWS: unknown key {key!r}" for key in value if key not in known]
    values: dict[str, Any] = {}
    for key, one in known.items():
        if key not in value:
            continue
        try:
            values[key] = one.metadata["read"](value[key])
        except ConfigurationError as error:
            problems.append(f"VOICEWS {key}: {error}")
    found = VoicewsSettings(**values)
    if "BOTS" in values and found.DEFAULT_BOT and found.DEFAULT_BOT not in found.BOTS:
        names = ", ".join(found.BOTS) or "none"
        problems.append(
            f"VOICEWS DEFAULT_BOT: expected one of BOTS ({names}), found {found.DEFAULT_BOT!r}"
        )
    return found, problems


def _load() -> VoicewsSettings:
    found, problems = read(getattr(django_settings, "VOICEWS", {}))
    if problems:
        raise ConfigurationError("; ".join(problems))
    return found


_lazy = SimpleLazyObject(_load)

settings = cast("VoicewsSettings", _lazy)
"""The project's settings. Using one raises ConfigurationError if any of them is wrong."""


def _reload(*, setting: str, **kwargs: object) -> None:
    if setting == "VOICEWS":
        _lazy.__dict__["_wrapped"] = empty


setting_changed.connect(_reload, dispatch_uid="voicews.conf")
