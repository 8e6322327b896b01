"""What the database knows of a call: the session, which outlives every socket that carries it."""

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


class VoiceSession(models.Model):
    """A conversation between a client and a bot.

    It is created by the connect endpoint, active from its first client to its end, and ends once.
    What belongs to one socket only is not stored here.
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

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    bot = models.CharField(_("bot"), max_length=BOT_NAME_MAX_LENGTH)
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
    end_reason = models.CharField(_("end reason"), max_length=200, blank=True)
    client_address = models.GenericIPAddressField(_("client address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=300, blank=True)
    bot_state = models.JSONField(
        _("bot state"),
        default=dict,
        blank=True,
        help_text=_("What the bot saved, to go on from in another process."),
    )

    class Meta:
        verbose_name = _("voice session")
        verbose_name_plural = _("voice sessions")
        ordering = ("-created_at",)
        indexes: ClassVar = [
            models.Index(fields=["state", "-created_at"], name="voicews_session_state"),
            models.Index(fields=["bot", "-created_at"], name="voicews_session_bot"),
            models.Index(fields=["user", "-created_at"], name="voicews_session_user"),
            models.Index(fields=["-created_at"], name="voicews_session_created"),
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
        ]

    def __str__(self) -> str:
        return f"{self.bot} {self.id}"

    @property
    def duration(self) -> timedelta | None:
        """From the first client to the end, or until now; None before the first client."""
        if self.started_at is None:
            return None
        return (self.ended_at or timezone.now()) - self.started_at
