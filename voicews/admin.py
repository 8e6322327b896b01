"""The sessions in Django's admin: to look at, not to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.duration import duration_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from voicews.models import VoiceSession

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[VoiceSession]
else:
    ModelAdmin = admin.ModelAdmin

# What the close codes of a call mean to an operator.
CLOSE_CODES = {
    1000: _("the bot ended it"),
    1001: _("the client left"),
    1005: _("the client left"),
    1006: _("the connection was lost"),
    1007: _("bad data"),
    1008: _("not allowed"),
    1009: _("message too big"),
    1011: _("server error"),
    1012: _("server restart"),
    1013: _("busy"),
    4000: _("time limit"),
    4001: _("replaced"),
    4002: _("ended by an operator"),
}


@admin.register(VoiceSession)
class VoiceSessionAdmin(ModelAdmin):
    list_display = (
        "id",
        "state_badge",
        "bot",
        "user",
        "kind",
        "created_at",
        "call_duration",
        "ending",
    )
    list_filter = ("state", "bot", "kind", "close_code", "created_at")
    list_select_related = ("user",)
    date_hierarchy = "created_at"
    # Live ones first; see VoiceSession.State.
    ordering = ("state", "-created_at")
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": ("id", "state_badge", "bot", "kind", "user")}),
        (_("Time"), {"fields": ("created_at", "started_at", "ended_at", "call_duration")}),
        (_("End"), {"fields": ("ending", "close_code", "end_reason")}),
        (_("Client"), {"fields": ("client_address", "user_agent")}),
        (_("Bot"), {"fields": ("bot_state",), "classes": ("collapse",)}),
    )

    class Media:
        css: ClassVar = {"all": ("voicews/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: VoiceSession | None = None) -> bool:
        return False

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        username = get_user_model().USERNAME_FIELD
        return ("=id", "bot", f"user__{username}", "=client_address", "end_reason")

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, session: VoiceSession) -> SafeString:
        return format_html(
            '<span class="voicews-state voicews-state-{}">{}</span>',
            session.state,
            session.get_state_display(),
        )

    @admin.display(description=_("duration"), empty_value="-")
    def call_duration(self, session: VoiceSession) -> str | None:
        duration = session.duration
        return None if duration is None else duration_string(duration).partition(".")[0]

    @admin.display(description=_("how it ended"), empty_value="-")
    def ending(self, session: VoiceSession) -> str | None:
        if session.state != VoiceSession.State.ENDED:
            return None
        return session.end_reason or str(CLOSE_CODES.get(session.close_code or 0, ""))
