"""What the database knows of calls: sessions, the sockets that carried them, what happened in them.

Also which server processes there are: a session belongs to at most one of them at a time.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from voicews.conf import BOT_NAME_MAX_LENGTH
from voicews.fields import StorableCharField, StorableJSONField, StorableTextField

__all__ = [
    "PhoneNumber",
    "ServerProcess",
    "SessionEvent",
    "TranscriptEntry",
    "VoiceConnection",
    "VoiceSession",
]


class VoiceSession(models.Model):
    """A conversation between a client and a bot.

    It is created by the connect endpoint, active from its first client to its end, and ends once.
    What belongs to one socket only is in `VoiceConnection`. `process` is the one that runs its
    bot: while its lease lasts, only that process may store anything here but a claim.
    """

    class Kind(models.TextChoices):
        BROWSER = "browser", _("browser")
        PHONE = "phone", _("phone")

    class State(models.TextChoices):
        # The admin shows the live ones first by sorting on the value, which an index can serve; the
        # values are in alphabetical order for that.
        ACTIVE = "active", _("active")
        CREATED = "created", _("created")
        ENDED = "ended", _("ended")

    class CallDirection(models.TextChoices):
        INBOUND = "inbound", _("inbound")
        OUTBOUND = "outbound", _("outbound")

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    bot = StorableCharField(_("bot"), max_length=BOT_NAME_MAX_LENGTH)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind, default=Kind.BROWSER)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,  # the index below, with the time, serves this too
        related_name="voice_sessions",
    )
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.CREATED)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    close_code = models.PositiveSmallIntegerField(_("close code"), null=True, blank=True)
    end_reason = StorableCharField(_("end reason"), max_length=200, blank=True)
    client_address = models.GenericIPAddressField(_("client address"), null=True, blank=True)
    user_agent = StorableCharField(_("user agent"), max_length=300, blank=True)
    # Of phone calls only: the call itself, as its provider names it.
    provider = StorableCharField(_("provider"), max_length=16, blank=True)
    call_id = StorableCharField(_("call id"), max_length=256, blank=True)
    direction = models.CharField(_("direction"), max_length=16, choices=CallDirection, blank=True)
    from_number = StorableCharField(_("from"), max_length=64, blank=True)
    to_number = StorableCharField(_("to"), max_length=64, blank=True)
    call_status = StorableCharField(
        _("call status"),
        max_length=16,
        blank=True,
        help_text=_("What the provider said last about the call."),
    )
    hang_up = StorableCharField(
        _("hang-up"),
        max_length=100,
        blank=True,
        help_text=_("What came of our request to the provider to end the call."),
    )
    bot_state = StorableJSONField(
        _("bot state"),
        default=dict,
        blank=True,
        help_text=_("What the bot saved, to go on from in another process."),
    )
    epoch = models.PositiveIntegerField(
        _("epoch"), default=0, editable=False, help_text=_("The number of the newest claim.")
    )
    owner_epoch = models.PositiveIntegerField(
        _("owner's epoch"),
        default=0,
        editable=False,
        help_text=_("The claim that its process got it with."),
    )
    process = models.ForeignKey(
        "ServerProcess",
        verbose_name=_("server process"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="sessions",
    )
    expires_at = models.DateTimeField(
        _("expires at"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When it ends, unless a client comes back."),
    )
    requested_close_code = models.PositiveSmallIntegerField(
        _("requested close code"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("Somebody has asked the process that runs it to end it."),
    )
    requested_end_reason = StorableCharField(
        _("requested end reason"), max_length=200, blank=True, editable=False
    )

    class Meta:
        verbose_name = _("voice session")
        verbose_name_plural = _("voice sessions")
        ordering = ("-created_at",)
        permissions = (
            ("end_voicesession", _("Can end voice sessions")),
            ("message_voicesession", _("Can send messages to the clients of voice sessions")),
            ("listen_voicesession", _("Can listen in to voice sessions")),
        )
        indexes: ClassVar = [
            models.Index(fields=["state", "-created_at"], name="voicews_session_state"),
            models.Index(fields=["bot", "-created_at"], name="voicews_session_bot"),
            models.Index(fields=["user", "-created_at"], name="voicews_session_user"),
            models.Index(fields=["-created_at"], name="voicews_session_created"),
            models.Index(fields=["-ended_at"], name="voicews_session_ended"),
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False),
                name="voicews_session_expires",
            ),
            models.Index(fields=["call_id"], condition=~Q(call_id=""), name="voicews_session_call"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state="ended", ended_at__isnull=False)
                | (~Q(state="ended") & Q(ended_at__isnull=True)),
                name="voicews_session_ended_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="active") | Q(started_at__isnull=False),
                name="voicews_session_active_has_time",
            ),
            models.UniqueConstraint(
                fields=["provider", "call_id"],
                condition=~Q(call_id="") & ~Q(state="ended"),
                name="voicews_session_one_per_call",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.bot} {self.id}"

    @property
    def duration(self) -> timedelta | None:
        """From the first client to the end, or until now; None before the first client."""
        if self.started_at is None:
            return None
        return (self.ended_at or timezone.now()) - self.started_at


class ServerProcess(models.Model):
    """One server process: it may feed bots until `lease_until`, which its heartbeats put off.

    The times are the database's, so that the clocks of hosts need not agree.
    """

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    host = StorableCharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process id"))
    # Where the channel layer reaches it; empty while there is no layer or it is away.
    channel = StorableCharField(_("channel"), max_length=120, blank=True)
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    heartbeat_at = models.DateTimeField(_("last heartbeat"))
    lease_until = models.DateTimeField(_("lease until"), db_index=True)
    draining = models.BooleanField(
        _("draining"), default=False, help_text=_("It takes no new calls and ends after the last.")
    )
    live_sessions = models.PositiveIntegerField(_("live sessions"), default=0)
    capacity = models.PositiveIntegerField(
        _("capacity"),
        null=True,
        blank=True,
        help_text=_("Sessions that it takes; empty: no limit."),
    )

    class Meta:
        verbose_name = _("server process")
        verbose_name_plural = _("server processes")
        ordering = ("host", "pid")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class VoiceConnection(models.Model):
    """One socket of a session that made a claim: active from `since` until `until`."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    session = models.ForeignKey(
        VoiceSession,
        verbose_name=_("session"),
        on_delete=models.CASCADE,
        db_index=False,  # the index below, with the time, serves this too
        related_name="connections",
    )
    epoch = models.PositiveIntegerField(_("epoch"))
    process = models.ForeignKey(
        ServerProcess,
        verbose_name=_("server process"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="connections",
    )
    since = models.DateTimeField(_("since"), default=timezone.now)
    until = models.DateTimeField(_("until"), null=True, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = StorableCharField(_("user agent"), max_length=300, blank=True)
    close_code = models.PositiveSmallIntegerField(_("close code"), null=True, blank=True)
    reason = StorableCharField(_("reason"), max_length=200, blank=True)
    messages_in = models.PositiveBigIntegerField(_("messages in"), default=0)
    messages_out = models.PositiveBigIntegerField(_("messages out"), default=0)
    bytes_in = models.PositiveBigIntegerField(_("bytes in"), default=0)
    bytes_out = models.PositiveBigIntegerField(_("bytes out"), default=0)
    invalid_messages = models.PositiveIntegerField(_("invalid messages"), default=0)

    class Meta:
        verbose_name = _("voice connection")
        verbose_name_plural = _("voice connections")
        ordering = ("since", "epoch")
        indexes: ClassVar = [
            models.Index(fields=["session", "since"], name="voicews_connection_session"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["session"],
                condition=Q(until__isnull=True),
                name="voicews_connection_one_active",
            ),
            models.UniqueConstraint(fields=["session", "epoch"], name="voicews_connection_epoch"),
        ]

    def __str__(self) -> str:
        return f"{self.session_id} #{self.epoch}"


class SessionEvent(models.Model):
    """One thing that happened in a session, and by whom."""

    class Kind(models.TextChoices):
        CONNECTED = "connected", _("connected")
        RESUMED = "resumed", _("resumed")
        REPLACED = "replaced", _("replaced")
        MOVED = "moved", _("moved to another process")
        INTERRUPTED = "interrupted", _("disconnected")
        TIMEOUT = "timeout", _("timeout")
        ERROR = "error", _("error")
        MESSAGE = "message", _("message")
        LISTENED = "listened", _("listened in")
        CALL = "call", _("call status")
        HANG_UP = "hang-up", _("hang-up")
        END_REQUESTED = "end-requested", _("end requested")
        ENDED = "ended", _("ended")

    class Actor(models.TextChoices):
        USER = "user", _("user")
        BOT = "bot", _("bot")
        CLIENT = "client", _("client")
        OPERATOR = "operator", _("operator")
        SERVER = "server", _("server")
        PROVIDER = "provider", _("provider")

    session = models.ForeignKey(
        VoiceSession,
        verbose_name=_("session"),
        on_delete=models.CASCADE,
        db_index=False,  # the index below, with the time, serves this too
        related_name="events",
    )
    at = models.DateTimeField(_("at"), default=timezone.now)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind)
    actor = models.CharField(_("by"), max_length=16, choices=Actor, default=Actor.SERVER)
    operator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("operator"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    close_code = models.PositiveSmallIntegerField(_("close code"), null=True, blank=True)
    detail = StorableCharField(_("detail"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("session event")
        verbose_name_plural = _("session events")
        ordering = ("at", "id")
        indexes: ClassVar = [models.Index(fields=["session", "at"], name="voicews_event_session")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.detail}".strip()


class TranscriptEntry(models.Model):
    """Something that was said or typed; of the bot's words, how much of them was heard."""

    class Role(models.TextChoices):
        USER = "user", _("user")
        BOT = "bot", _("bot")

    session = models.ForeignKey(
        VoiceSession,
        verbose_name=_("session"),
        on_delete=models.CASCADE,
        db_index=False,  # the index below, with the time, serves this too
        related_name="transcript",
    )
    at = models.DateTimeField(_("at"), default=timezone.now)
    role = models.CharField(_("role"), max_length=8, choices=Role)
    text = StorableTextField(_("text"))
    heard_ms = models.PositiveIntegerField(_("heard (ms)"), null=True, blank=True)
    interrupted = models.BooleanField(_("interrupted"), default=False)
    #: Of what was interrupted, the words that were heard, as far as that is known.
    heard_text = StorableTextField(_("heard text"), null=True, blank=True)

    class Meta:
        verbose_name = _("transcript entry")
        verbose_name_plural = _("transcript entries")
        ordering = ("at", "id")
        indexes: ClassVar = [
            models.Index(fields=["session", "at"], name="voicews_transcript_session")
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()}: {self.text[:60]}"

    @property
    def unheard_text(self) -> str:
        """The words behind those of `heard_text`; empty where that is not known."""
        text: str = self.text
        heard: str | None = self.heard_text
        if heard is None:
            return ""
        if text.startswith(heard):
            return text[len(heard) :].strip()
        # The same words with other spaces between them.
        return " ".join(text.split()[len(heard.split()) :])


class PhoneNumber(models.Model):
    """A number of ours, and the bot that answers it."""

    number = StorableCharField(
        _("number"), max_length=64, help_text=_("With the plus and without spaces: +15551234567.")
    )
    provider = StorableCharField(
        _("provider"),
        max_length=16,
        blank=True,
        help_text=_("Empty: whichever provider the call comes from."),
    )
    bot = StorableCharField(_("bot"), max_length=BOT_NAME_MAX_LENGTH)

    class Meta:
        verbose_name = _("phone number")
        verbose_name_plural = _("phone numbers")
        ordering = ("number", "provider")
        permissions = (("call_phonenumber", _("Can place calls")),)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["number", "provider"], name="voicews_number_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.provider}".strip()


class UsedNonce(models.Model):
    """The nonce of a signed request: a second one with it is refused, in every process."""

    digest = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest


class Dashboard(VoiceSession):
    """No rows of its own: the admin lists models, and its dashboard is listed as this one.

    Users who may view sessions may see it; it has no permissions of its own.
    """

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
