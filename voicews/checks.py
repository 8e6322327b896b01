"""What ``manage.py check`` says about voicews. The ids are stable: a project may silence one.

==== ======================================================================================
E001 VOICEWS is not what voicews.conf expects
E002 a bot can't be imported
E003 a bot is not a subclass of voicews.bots.Bot
E004 MAY_CONNECT can't be imported or called
E005 a telephony provider can't be switched on: an option is missing or wrong
E006 a telephony provider needs a package that is not installed
W001 ASGI_APPLICATION is missing: Daphne and ``runserver`` have nothing to serve
W002 DEBUG is on and ``runserver`` is Django's own, which takes no WebSockets
W003 Daphne is too old: its messages have no size limit
W004 DEBUG is off and there is no channel layer
W005 DEBUG is off and the channel layer is in memory, which is for one process only
W006 DEBUG is off and the secret key, which signs the tokens, is a published one
W007 DEBUG is off and the channel layer is the core Redis one: consumers die with Redis
W008 DEBUG is off and SQLite begins its transactions without the write lock
W009 a client may come back for longer than its token is good
W010 deployment: everybody may connect
W011 deployment: pages of every site may connect
W012 deployment: uvicorn compresses every message, unless its command line says otherwise
W013 deployment: several uvicorn workers, and a channel layer for one process
W014 django-cors-headers answers for the connect endpoint, without a site of ALLOWED_ORIGINS
W015 DEBUG is off and static files get hashes in their names, but not in what modules import
==== ======================================================================================
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.contrib.staticfiles.storage import HashedFilesMixin
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from voicews.conf import VoicewsSettings, load, read
from voicews.exceptions import ConfigurationError
from voicews.servers.options import IN_MEMORY_LAYER, compresses

INSECURE_KEY_PREFIX = "django-insecure-"
OLDEST_DAPHNE = (4, 2, 2)
CORE_REDIS_LAYER = "channels_redis.core.RedisChannelLayer"


def register_checks() -> None:
    """Tell Django of the checks; called when the app is ready."""
    register(check_settings, "voicews")
    register(check_providers, "voicews")
    register(check_server, "voicews")
    register(check_channel_layer, "voicews")
    register(check_database, "voicews")
    register(check_cors, "voicews")
    register(check_static_files, Tags.staticfiles)
    register(check_uvicorn, "voicews", deploy=True)
    register(check_secret_key, Tags.security)
    register(check_access, Tags.security, deploy=True)


def _settings() -> VoicewsSettings:
    return read(getattr(django_settings, "VOICEWS", {}))[0]


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The values of VOICEWS, and whether what they name exists."""
    from voicews.bots import Bot

    found, problems = read(getattr(django_settings, "VOICEWS", {}))
    messages: list[CheckMessage] = [Error(problem, id="voicews.E001") for problem in problems]
    for bot in found.BOTS.values():
        try:
            cls: object = bot.load()
        except ConfigurationError as error:
            messages.append(Error(str(error), id="voicews.E002"))
            continue
        if not (isinstance(cls, type) and issubclass(cls, Bot)):
            messages.append(
                Error(
                    f"VOICEWS BOTS: {bot.name}: expected a subclass of voicews.bots.Bot, "
                    f"found {bot.path}",
                    id="voicews.E003",
                )
            )
    try:
        if not callable(load(found.MAY_CONNECT, "MAY_CONNECT")):
            raise ConfigurationError(
                f"VOICEWS MAY_CONNECT: expected a function, found {found.MAY_CONNECT}"
            )
    except ConfigurationError as error:
        messages.append(
            Error(str(error), hint="See voicews.permissions for two.", id="voicews.E004")
        )
    return messages


def check_providers(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether the telephony providers that are switched on have what they need."""
    from voicews.telephony.registry import make_provider

    found = _settings()
    messages: list[CheckMessage] = []
    for name in found.PROVIDERS:
        try:
            make_provider(name, found)
        except ConfigurationError as error:
            messages.append(Error(f"VOICEWS PROVIDERS: {error}", id="voicews.E005"))
    packages = ("cryptography", "httpx2")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if found.PROVIDERS and missing:
        messages.append(
            Error(
                f"VOICEWS PROVIDERS: not installed: {', '.join(missing)}",
                hint="pip install 'voicews[telephony]'",
                id="voicews.E006",
            )
        )
    return messages


def check_server(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether what runs the project can take WebSockets."""
    messages: list[CheckMessage] = []
    if not getattr(django_settings, "ASGI_APPLICATION", None):
        messages.append(
            checks.Warning(
                "ASGI_APPLICATION is not set.",
                hint="Set it to the path of what voicews.routing.voice_application() returned, "
                "such as 'project.asgi.application'.",
                id="voicews.W001",
            )
        )
    if django_settings.DEBUG and not apps.is_installed("daphne"):
        messages.append(
            checks.Warning(
                "runserver takes no WebSockets.",
                hint="Add 'daphne' to INSTALLED_APPS, before 'django.contrib.staticfiles'.",
                id="voicews.W002",
            )
        )
    version = _version("daphne")
    if version and tuple(int(one) for one in re.findall(r"\d+", version)[:3]) < OLDEST_DAPHNE:
        messages.append(
            checks.Warning(
                f"Daphne {version} accepts messages of any size from any client (CVE-2026-44545).",
                hint="Upgrade it to 4.2.2 or newer.",
                id="voicews.W003",
            )
        )
    return messages


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_channel_layer(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether the processes of a deployment can tell each other about sessions."""
    if django_settings.DEBUG:
        return []
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    backend = layers.get("default", {}).get("BACKEND")
    hint = (
        "With more than one process, set CHANNEL_LAYERS to "
        "channels_redis.pubsub.RedisPubSubChannelLayer. With one process, silence this check."
    )
    if backend is None:
        return [checks.Warning("There is no default channel layer.", hint=hint, id="voicews.W004")]
    if backend == IN_MEMORY_LAYER:
        return [
            checks.Warning(
                "The in-memory channel layer is for one process only: other processes are "
                "not notified when a session changes hands.",
                hint=hint,
                id="voicews.W005",
            )
        ]
    if backend == CORE_REDIS_LAYER:
        return [
            checks.Warning(
                "With the core Redis layer, consumers that use the layer die when Redis restarts.",
                hint="Use channels_redis.pubsub.RedisPubSubChannelLayer, or silence this check: "
                "voicews itself goes on with either.",
                id="voicews.W007",
            )
        ]
    return []


def check_database(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether sessions can change hands under load, and come back as long as they may."""
    messages: list[CheckMessage] = []
    database = getattr(django_settings, "DATABASES", {}).get("default", {})
    options = database.get("OPTIONS", {})
    is_sqlite = database.get("ENGINE") == "django.db.backends.sqlite3"
    if (
        is_sqlite
        and not django_settings.DEBUG
        and str(options.get("transaction_mode", "")).upper() != "IMMEDIATE"
    ):
        messages.append(
            checks.Warning(
                "SQLite refuses concurrent writers at once, without waiting for each other.",
                hint="Set DATABASES['default']['OPTIONS']['transaction_mode'] to 'IMMEDIATE', and "
                "'init_command' to 'PRAGMA journal_mode=WAL'.",
                id="voicews.W008",
            )
        )
    found = _settings()
    if found.RESUME_TOKEN_MAX_AGE_SECS < found.RECONNECT_GRACE_SECS:
        messages.append(
            checks.Warning(
                "VOICEWS: a session waits longer for its client (RECONNECT_GRACE_SECS) than the "
                "client's token is good (RESUME_TOKEN_MAX_AGE_SECS).",
                hint="A token should be good for as long as a call may last.",
                id="voicews.W009",
            )
        )
    return messages


def check_cors(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Whether django-cors-headers, which answers a browser's question first, knows our sites."""
    allowed = _settings().ALLOWED_ORIGINS or ()
    middleware = getattr(django_settings, "MIDDLEWARE", None) or ()
    if "corsheaders.middleware.CorsMiddleware" not in middleware or getattr(
        django_settings, "CORS_ALLOW_ALL_ORIGINS", False
    ):
        return []
    try:
        path = reverse("voicews:connect")
    except NoReverseMatch:
        return []
    if not re.match(getattr(django_settings, "CORS_URLS_REGEX", "^.*$"), path):
        return []
    known = getattr(django_settings, "CORS_ALLOWED_ORIGINS", ())
    patterns = getattr(django_settings, "CORS_ALLOWED_ORIGIN_REGEXES", ())
    missing = [
        origin
        for origin in allowed
        if origin not in known
        # A pattern stands for all names below it: one of them tells.
        and not any(re.match(one, origin.replace("://.", "://any.")) for one in patterns)
    ]
    if not missing:
        return []
    return [
        checks.Warning(
            f"django-cors-headers keeps pages of {', '.join(missing)} from the connect endpoint, "
            "which VOICEWS['ALLOWED_ORIGINS'] lets in.",
            hint="Name them in CORS_ALLOWED_ORIGINS (or CORS_ALLOWED_ORIGIN_REGEXES) too, or leave "
            f"{path} out of CORS_URLS_REGEX: voicews answers for it by itself.",
            id="voicews.W014",
        )
    ]


def check_static_files(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether the modules of the browser client import one another by their hashed names."""
    backend = django_settings.STORAGES.get("staticfiles", {}).get("BACKEND", "")
    try:
        storage = import_string(backend)
    except ImportError:  # Django's own check says so
        return []
    if (
        django_settings.DEBUG
        or not (isinstance(storage, type) and issubclass(storage, HashedFilesMixin))
        or storage.support_js_module_import_aggregation
    ):
        return []
    return [
        checks.Warning(
            f"{backend} leaves out the hashes when JavaScript modules import one another: after an "
            "upgrade browsers may mix old files and new ones, and with hashed files only there are "
            "none to import.",
            hint="Set STORAGES['staticfiles']['BACKEND'] to a subclass of it that has "
            "support_js_module_import_aggregation = True.",
            id="voicews.W015",
        )
    ]


def check_uvicorn(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """What uvicorn's environment says; what its command line says is logged when it serves."""
    if importlib.util.find_spec("uvicorn") is None:
        return []
    messages: list[CheckMessage] = []
    if compresses(["uvicorn"], dict(os.environ)):
        messages.append(
            checks.Warning(
                "uvicorn compresses every message, which nearly triples the CPU time.",
                hint="Start it with --ws-per-message-deflate false and silence this check, or set "
                "UVICORN_WS_PER_MESSAGE_DEFLATE=false in its environment.",
                id="voicews.W012",
            )
        )
    workers = os.environ.get("WEB_CONCURRENCY") or os.environ.get("UVICORN_WORKERS") or "1"
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    if workers != "1" and layers.get("default", {}).get("BACKEND") in (None, IN_MEMORY_LAYER):
        messages.append(
            checks.Warning(
                f"{workers} uvicorn workers can't notify each other about sessions.",
                hint="Set CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer.",
                id="voicews.W013",
            )
        )
    return messages


def check_secret_key(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether strangers know the key that signs the tokens."""
    if django_settings.DEBUG or not django_settings.SECRET_KEY.startswith(INSECURE_KEY_PREFIX):
        return []
    return [
        checks.Warning(
            "SECRET_KEY is a published demo key: anyone can make tokens that open every session.",
            hint="Set a long random one that is not in the repository.",
            id="voicews.W006",
        )
    ]


def check_access(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether a deployment is as open as a demo."""
    found = _settings()
    messages: list[CheckMessage] = []
    if found.MAY_CONNECT == "voicews.permissions.anybody":
        messages.append(
            checks.Warning(
                "Everybody may connect to every bot.",
                hint="Set VOICEWS['MAY_CONNECT'] to 'voicews.permissions.authenticated' or to a "
                "function of your own, or silence this check for public bots.",
                id="voicews.W010",
            )
        )
    if found.ALLOWED_ORIGINS is not None and "*" in found.ALLOWED_ORIGINS:
        messages.append(
            checks.Warning(
                "Pages of every site may connect.",
                hint="List the sites in VOICEWS['ALLOWED_ORIGINS'], or leave it out to follow "
                "ALLOWED_HOSTS.",
                id="voicews.W011",
            )
        )
    return messages
