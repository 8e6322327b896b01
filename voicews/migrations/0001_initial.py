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
            name="ServerProcess",
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
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.PositiveIntegerField(verbose_name="process id")),
                ("channel", models.CharField(blank=True, max_length=120, verbose_name="channel")),
                (
                    "started_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="started at"
                    ),
                ),
                ("heartbeat_at", models.DateTimeField(verbose_name="last heartbeat")),
                ("lease_until", models.DateTimeField(db_index=True, verbose_name="lease until")),
                (
                    "draining",
                    models.BooleanField(
                        default=False,
                        help_text="It takes no new calls and ends after the last.",
                        verbose_name="draining",
                    ),
                ),
                (
                    "live_sessions",
                    models.PositiveIntegerField(default=0, verbose_name="live sessions"),
                ),
                (
                    "capacity",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Sessions that it takes; empty: no limit.",
                        null=True,
                        verbose_name="capacity",
                    ),
                ),
            ],
            options={
                "verbose_name": "server process",
                "verbose_name_plural": "server processes",
                "ordering": ("host", "pid"),
            },
        ),
        migrations.CreateModel(
            name="PhoneNumber",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "number",
                    models.CharField(
                        help_text="With the plus and without spaces: +15551234567.",
                        max_length=64,
                        verbose_name="number",
                    ),
                ),
                (
                    "provider",
                    models.CharField(
                        blank=True,
                        help_text="Empty: whichever provider the call comes from.",
                        max_length=16,
                        verbose_name="provider",
                    ),
                ),
                ("bot", models.CharField(max_length=100, verbose_name="bot")),
            ],
            options={
                "verbose_name": "phone number",
                "verbose_name_plural": "phone numbers",
                "ordering": ("number", "provider"),
                "permissions": (("call_phonenumber", "Can place calls"),),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("number", "provider"), name="voicews_number_unique"
                    )
                ],
            },
        ),
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
                ("provider", models.CharField(blank=True, max_length=16, verbose_name="provider")),
                ("call_id", models.CharField(blank=True, max_length=256, verbose_name="call id")),
                (
                    "direction",
                    models.CharField(
                        blank=True,
                        choices=[("inbound", "inbound"), ("outbound", "outbound")],
                        max_length=16,
                        verbose_name="direction",
                    ),
                ),
                ("from_number", models.CharField(blank=True, max_length=64, verbose_name="from")),
                ("to_number", models.CharField(blank=True, max_length=64, verbose_name="to")),
                (
                    "call_status",
                    models.CharField(
                        blank=True,
                        help_text="What the provider said last about the call.",
                        max_length=16,
                        verbose_name="call status",
                    ),
                ),
                (
                    "hang_up",
                    models.CharField(
                        blank=True,
                        help_text="What came of our request to the provider to end the call.",
                        max_length=100,
                        verbose_name="hang-up",
                    ),
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
                    "epoch",
                    models.PositiveIntegerField(
                        default=0,
                        editable=False,
                        help_text="The number of the newest claim.",
                        verbose_name="epoch",
                    ),
                ),
                (
                    "owner_epoch",
                    models.PositiveIntegerField(
                        default=0,
                        editable=False,
                        help_text="The claim that its process got it with.",
                        verbose_name="owner's epoch",
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="When it ends, unless a client comes back.",
                        null=True,
                        verbose_name="expires at",
                    ),
                ),
                (
                    "requested_close_code",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        editable=False,
                        help_text="Somebody has asked the process that runs it to end it.",
                        null=True,
                        verbose_name="requested close code",
                    ),
                ),
                (
                    "requested_end_reason",
                    models.CharField(
                        blank=True,
                        editable=False,
                        max_length=200,
                        verbose_name="requested end reason",
                    ),
                ),
                (
                    "process",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="sessions",
                        to="voicews.serverprocess",
                        verbose_name="server process",
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
                "permissions": (
                    ("end_voicesession", "Can end voice sessions"),
                    (
                        "message_voicesession",
                        "Can send messages to the clients of voice sessions",
                    ),
                    ("listen_voicesession", "Can listen in to voice sessions"),
                ),
            },
        ),
        migrations.CreateModel(
            name="Dashboard",
            fields=[],
            options={
                "verbose_name": "dashboard",
                "verbose_name_plural": "dashboard",
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("voicews.voicesession",),
        ),
        migrations.CreateModel(
            name="VoiceConnection",
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
                ("epoch", models.PositiveIntegerField(verbose_name="epoch")),
                (
                    "since",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="since"),
                ),
                ("until", models.DateTimeField(blank=True, null=True, verbose_name="until")),
                (
                    "address",
                    models.GenericIPAddressField(blank=True, null=True, verbose_name="address"),
                ),
                (
                    "user_agent",
                    models.CharField(blank=True, max_length=300, verbose_name="user agent"),
                ),
                (
                    "close_code",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, verbose_name="close code"
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=200, verbose_name="reason")),
                (
                    "messages_in",
                    models.PositiveBigIntegerField(default=0, verbose_name="messages in"),
                ),
                (
                    "messages_out",
                    models.PositiveBigIntegerField(default=0, verbose_name="messages out"),
                ),
                ("bytes_in", models.PositiveBigIntegerField(default=0, verbose_name="bytes in")),
                ("bytes_out", models.PositiveBigIntegerField(default=0, verbose_name="bytes out")),
                (
                    "invalid_messages",
                    models.PositiveIntegerField(default=0, verbose_name="invalid messages"),
                ),
                (
                    "process",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="connections",
                        to="voicews.serverprocess",
                        verbose_name="server process",
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="connections",
                        to="voicews.voicesession",
                        verbose_name="session",
                    ),
                ),
            ],
            options={
                "verbose_name": "voice connection",
                "verbose_name_plural": "voice connections",
                "ordering": ("since", "epoch"),
            },
        ),
        migrations.CreateModel(
            name="TranscriptEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="at")),
                (
                    "role",
                    models.CharField(
                        choices=[("user", "user"), ("bot", "bot")],
                        max_length=8,
                        verbose_name="role",
                    ),
                ),
                ("text", models.TextField(verbose_name="text")),
                (
                    "heard_ms",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="heard (ms)"),
                ),
                ("interrupted", models.BooleanField(default=False, verbose_name="interrupted")),
                (
                    "session",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="transcript",
                        to="voicews.voicesession",
                        verbose_name="session",
                    ),
                ),
            ],
            options={
                "verbose_name": "transcript entry",
                "verbose_name_plural": "transcript entries",
                "ordering": ("at", "id"),
            },
        ),
        migrations.CreateModel(
            name="SessionEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="at")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("connected", "connected"),
                            ("resumed", "resumed"),
                            ("replaced", "replaced"),
                            ("moved", "moved to another process"),
                            ("interrupted", "disconnected"),
                            ("timeout", "timeout"),
                            ("error", "error"),
                            ("message", "message"),
                            ("listened", "listened in"),
                            ("call", "call status"),
                            ("hang-up", "hang-up"),
                            ("end-requested", "end requested"),
                            ("ended", "ended"),
                        ],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                (
                    "actor",
                    models.CharField(
                        choices=[
                            ("user", "user"),
                            ("bot", "bot"),
                            ("client", "client"),
                            ("operator", "operator"),
                            ("server", "server"),
                            ("provider", "provider"),
                        ],
                        default="server",
                        max_length=16,
                        verbose_name="by",
                    ),
                ),
                (
                    "close_code",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, verbose_name="close code"
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=500, verbose_name="detail")),
                (
                    "operator",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="operator",
                    ),
                ),
                (
                    "session",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="voicews.voicesession",
                        verbose_name="session",
                    ),
                ),
            ],
            options={
                "verbose_name": "session event",
                "verbose_name_plural": "session events",
                "ordering": ("at", "id"),
            },
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(fields=["state", "-created_at"], name="voicews_session_state"),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(fields=["bot", "-created_at"], name="voicews_session_bot"),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(fields=["user", "-created_at"], name="voicews_session_user"),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(fields=["-created_at"], name="voicews_session_created"),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(fields=["-ended_at"], name="voicews_session_ended"),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False)),
                fields=["expires_at"],
                name="voicews_session_expires",
            ),
        ),
        migrations.AddConstraint(
            model_name="voicesession",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", False), ("state", "ended")),
                    models.Q(
                        models.Q(("state", "ended"), _negated=True), ("ended_at__isnull", True)
                    ),
                    _connector="OR",
                ),
                name="voicews_session_ended_has_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="voicesession",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "active"), _negated=True),
                    ("started_at__isnull", False),
                    _connector="OR",
                ),
                name="voicews_session_active_has_time",
            ),
        ),
        migrations.AddIndex(
            model_name="voicesession",
            index=models.Index(
                condition=models.Q(("call_id", ""), _negated=True),
                fields=["call_id"],
                name="voicews_session_call",
            ),
        ),
        migrations.AddConstraint(
            model_name="voicesession",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    models.Q(("call_id", ""), _negated=True),
                    models.Q(("state", "ended"), _negated=True),
                ),
                fields=("provider", "call_id"),
                name="voicews_session_one_per_call",
            ),
        ),
        migrations.AddIndex(
            model_name="voiceconnection",
            index=models.Index(fields=["session", "since"], name="voicews_connection_session"),
        ),
        migrations.AddConstraint(
            model_name="voiceconnection",
            constraint=models.UniqueConstraint(
                condition=models.Q(("until__isnull", True)),
                fields=("session",),
                name="voicews_connection_one_active",
            ),
        ),
        migrations.AddConstraint(
            model_name="voiceconnection",
            constraint=models.UniqueConstraint(
                fields=("session", "epoch"), name="voicews_connection_epoch"
            ),
        ),
        migrations.AddIndex(
            model_name="transcriptentry",
            index=models.Index(fields=["session", "at"], name="voicews_transcript_session"),
        ),
        migrations.AddIndex(
            model_name="sessionevent",
            index=models.Index(fields=["session", "at"], name="voicews_event_session"),
        ),
    ]
