import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="VoiceSession",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="id",
                    ),
                ),
                ("bot", models.CharField(max_length=100, verbose_name="bot")),
                (
                    "kind",
                    models.CharField(
                        choices=[("browser", "browser"), ("phone", "phone")],
                        default="browser",
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("active", "active"), ("created", "created"), ("ended", "ended")],
                        default="created",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created at"
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="started at"),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended at")),
                (
                    "close_code",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, verbose_name="close code"
                    ),
                ),
                (
                    "end_reason",
                    models.CharField(blank=True, max_length=200, verbose_name="end reason"),
                ),
                (
                    "client_address",
                    models.GenericIPAddressField(
                        blank=True, null=True, verbose_name="client address"
                    ),
                ),
                (
                    "user_agent",
                    models.CharField(blank=True, max_length=300, verbose_name="user agent"),
                ),
                (
                    "bot_state",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="What the bot saved, to go on from in another process.",
                        verbose_name="bot state",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="voice_sessions",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "voice session",
                "verbose_name_plural": "voice sessions",
                "ordering": ("-created_at",),
                "indexes": [
                    models.Index(fields=["state", "-created_at"], name="voicews_session_state"),
                    models.Index(fields=["bot", "-created_at"], name="voicews_session_bot"),
                    models.Index(fields=["user", "-created_at"], name="voicews_session_user"),
                    models.Index(fields=["-created_at"], name="voicews_session_created"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", False), ("state", "ended")),
                            models.Q(
                                models.Q(("state", "ended"), _negated=True),
                                ("ended_at__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="voicews_session_ended_has_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "active"), _negated=True),
                            ("started_at__isnull", False),
                            _connector="OR",
                        ),
                        name="voicews_session_active_has_time",
                    ),
                ],
            },
        ),
    ]
