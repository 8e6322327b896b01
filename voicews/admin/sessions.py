"""The list of sessions, and the page of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from voicews.admin.endings import ENDINGS, ending
from voicews.admin.export import csv_response
from voicews.admin.sockets import (
    is_settled,
    list_socket_path,
    list_version,
    listen_socket_path,
    may_use_admin,
    session_socket_path,
    session_version,
)
from voicews.endpoints import non_atomic
from voicews.exceptions import NotAllowed
from voicews.locations import page_prefix
from voicews.models import VoiceConnection, VoiceSession
from voicews.servers.fast_path import MAX_REASON_BYTES
from voicews.sessions.operators import end_session, send_message

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[VoiceSession]
else:
    ModelAdmin = admin.ModelAdmin

DEFAULT_REASON = _("ended by an operator")
#: Rows of a session that its page shows; a longer history keeps its newest.
MAX_ROWS = 1000


#: What only phone calls have.
PHONE_FIELDS = (
    ("provider", "direction"),
    ("from_number", "to_number"),
    "call_id",
    "call_status",
    "hang_up",
)


class StateFilter(admin.SimpleListFilter):
    """Calls that have begun, unless it is chosen otherwise: many are asked for and never made."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        yield VoiceSession.State.ACTIVE.value, _("live")
        yield VoiceSession.State.ENDED.value, _("ended")
        yield VoiceSession.State.CREATED.value, _("not begun")
        yield "all", _("all, also those not begun")

    def choices(self, changelist: Any) -> Iterator[Any]:
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": _("live or ended")} if index == 0 else choice

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[VoiceSession]
    ) -> QuerySet[VoiceSession]:
        value = self.value()
        if value in VoiceSession.State.values:
            return queryset.filter(state=value)
        if value is None and not request.GET.get(SEARCH_VAR):
            return queryset.exclude(state=VoiceSession.State.CREATED)
        return queryset


class EndingFilter(admin.SimpleListFilter):
    """How it ended, without asking the table which codes there are."""

    title = _("how it ended")
    parameter_name = "close_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        for code, one in ENDINGS.items():
            yield str(code), f"{code} {one.meaning}"

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[VoiceSession]
    ) -> QuerySet[VoiceSession]:
        value = self.value()
        return queryset.filter(close_code=value) if value and value.isdecimal() else queryset


def readable(duration: timedelta | None) -> str:
    """A duration as a clock shows it: 1:02:03, or 2:03."""
    if duration is None:
        return ""
    minutes, seconds = divmod(max(0, int(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def local(at: datetime) -> datetime:
    """The time on the project's clock; without `USE_TZ` it is that already."""
    return timezone.localtime(at) if timezone.is_aware(at) else at


def partner(session: VoiceSession) -> str:
    """Whom the bot talks with, as well as is known; of a phone call, the other end's number."""
    outbound = session.direction == VoiceSession.CallDirection.OUTBOUND
    number = session.to_number if outbound else session.from_number
    # The address of a phone call is its provider's, the user of an outbound one had it placed.
    return number or str(session.user or session.client_address or "")


@admin.register(VoiceSession)
class VoiceSessionAdmin(ModelAdmin):
    list_display = (
        "state_badge",
        "short_id",
        "bot",
        "with_whom",
        "began",
        "how_it_ended",
        "call_duration",
        "invalid_messages",
    )
    list_display_links = ("short_id",)
    list_filter = (StateFilter, "bot", "kind", EndingFilter, "created_at")
    list_select_related = ("user",)
    date_hierarchy = "created_at"
    # Live ones first; see VoiceSession.State.
    ordering = ("state", "-created_at")
    show_full_result_count = False
    actions = ("end_calls", "export_csv")
    search_help_text = _("Session, bot, user, phone number, address, or reason of the end")
    change_list_template = "admin/voicews/voicesession/change_list.html"
    change_form_template = "admin/voicews/voicesession/change_form.html"
    fieldsets = (
        (
            _("Details"),
            {
                "fields": (
                    ("bot", "kind", "user"),
                    ("created_at", "started_at", "ended_at"),
                    ("call_duration", "invalid_messages"),
                    ("close_code", "end_reason"),
                    ("client_address", "user_agent"),
                    "id",
                )
            },
        ),
        (_("Phone call"), {"fields": PHONE_FIELDS}),
        (
            _("Server"),
            {
                "fields": (("process", "epoch", "expires_at"), "bot_state"),
                "classes": ("collapse",),
            },
        ),
    )

    # --- who may do what --------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: VoiceSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: VoiceSession | None = None) -> bool:
        """What happened stays; a superuser may delete what is over."""
        is_over = obj is None or obj.state != VoiceSession.State.ACTIVE
        return is_over and _is_superuser(request)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return may_use_admin(request.user, "end")

    def has_message_permission(self, request: HttpRequest) -> bool:
        return may_use_admin(request.user, "message")

    def has_listen_permission(self, request: HttpRequest) -> bool:
        return may_use_admin(request.user, "listen")

    # --- the list ---------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[VoiceSession]:
        invalid = (
            VoiceConnection.objects.filter(session=OuterRef("pk"))
            .order_by()
            .values("session")
            .annotate(total=Sum("invalid_messages"))
            .values("total")
        )
        return (
            super()
            .get_queryset(request)
            .annotate(invalid_messages_total=Coalesce(Subquery(invalid), 0))
        )

    def get_fieldsets(self, request: HttpRequest, obj: VoiceSession | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or obj.kind == VoiceSession.Kind.PHONE:
            return fieldsets
        return [one for one in fieldsets if one[1]["fields"] != PHONE_FIELDS]

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        username = get_user_model().USERNAME_FIELD
        return (
            "=id",
            "bot",
            f"user__{username}",
            "from_number",
            "to_number",
            "=client_address",
            "end_reason",
        )

    @non_atomic  # its actions end calls: another process must see that
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        live = {
            # Before the list is made: what happens meanwhile shows as a change.
            "version": list_version(),
            "socket": page_prefix(request) + list_socket_path(),
        }
        return super().changelist_view(request, {**(extra_context or {}), "voicews": live})

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, session: VoiceSession) -> SafeString:
        live = session.state == VoiceSession.State.ACTIVE
        return format_html(
            '<span class="voicews-state voicews-state-{}">{}</span>',
            session.state,
            _("live") if live else session.get_state_display(),
        )

    @admin.display(description=_("session"))
    def short_id(self, session: VoiceSession) -> SafeString:
        return format_html(
            '<span class="voicews-id" title="{}">{}</span>', session.pk, str(session.pk)[:8]
        )

    @admin.display(description=_("with"))
    def with_whom(self, session: VoiceSession) -> str:
        return partner(session) or self.get_empty_value_display()

    @admin.display(description=_("created"), ordering="created_at")
    def began(self, session: VoiceSession) -> SafeString:
        at = local(session.created_at)
        return format_html(
            '<time class="voicews-time" datetime="{}" title="{}">{}</time>',
            at.isoformat(timespec="seconds"),
            date_format(at, "DATETIME_FORMAT"),
            date_format(at, "j M H:i"),
        )

    @admin.display(description=_("duration"))
    def call_duration(self, session: VoiceSession) -> SafeString | str:
        duration = session.duration
        if duration is None or session.state != VoiceSession.State.ACTIVE:
            return readable(duration) or self.get_empty_value_display()
        return format_html(
            '<span class="voicews-clock" data-secs="{}">{}</span>',
            int(duration.total_seconds()),
            readable(duration),
        )

    @admin.display(description=_("invalid messages"), ordering="invalid_messages_total")
    def invalid_messages(self, session: VoiceSession) -> int:
        return int(getattr(session, "invalid_messages_total", 0))

    @admin.display(description=_("how it ended"))
    def how_it_ended(self, session: VoiceSession) -> SafeString | str:
        if session.state != VoiceSession.State.ENDED:
            return self.get_empty_value_display()
        found = ending(session.close_code)
        return format_html(
            '<span class="voicews-ending{}" title="{}">{}</span>',
            " voicews-trouble" if found.is_trouble else "",
            session.close_code or "",
            session.end_reason or found.meaning,
        )

    # --- actions on the list ----------------------------------------------------------------------

    @admin.action(description=_("Export selected sessions as CSV"), permissions=["view"])
    def export_csv(
        self, request: HttpRequest, queryset: QuerySet[VoiceSession]
    ) -> HttpResponseBase:
        username = get_user_model().USERNAME_FIELD
        fields = (
            "id",
            "state",
            "bot",
            "kind",
            "created_at",
            "started_at",
            "ended_at",
            "close_code",
            "end_reason",
            "client_address",
            "user_agent",
            "provider",
            "direction",
            "from_number",
            "to_number",
            "call_id",
            "call_status",
            "hang_up",
        )

        def row(session: VoiceSession) -> Iterable[object]:
            duration = session.duration
            yield from (getattr(session, name) for name in fields)
            yield getattr(session.user, username, None)
            yield None if duration is None else round(duration.total_seconds(), 1)
            yield self.invalid_messages(session)

        header = (*fields, "user", "duration_secs", "invalid_messages")
        filename = f"voice-sessions-{timezone.now():%Y%m%d-%H%M%S}.csv"
        return csv_response(request, filename, header, queryset.select_related("user"), row)

    @admin.action(description=_("End selected calls"), permissions=["end"])
    def end_calls(
        self, request: HttpRequest, queryset: QuerySet[VoiceSession]
    ) -> HttpResponse | None:
        live = queryset.filter(state=VoiceSession.State.ACTIVE)
        if request.POST.get("confirmed"):
            ended = sum(self._end(request, session, quiet=True) for session in list(live))
            text = ngettext("%d call is being ended.", "%d calls are being ended.", ended) % ended
            self.message_user(request, text, messages.SUCCESS)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": _now("End selected calls"),
            "opts": self.opts,
            "calls": live.select_related("user")[:100],
            "count": live.count(),
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "default_reason": DEFAULT_REASON,
            "media": self.media,
        }
        template = "admin/voicews/voicesession/end_selected.html"
        return TemplateResponse(request, template, context)

    # --- the page of one session ------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("<path:object_id>/end/", view(self.end_view), name=f"{name}_end"),
            path("<path:object_id>/message/", view(self.message_view), name=f"{name}_message"),
            *super().get_urls(),
        ]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: VoiceSession | None = None,
    ) -> HttpResponse:
        assert obj is not None, "sessions can't be added"
        prefix = page_prefix(request)
        version = session_version(obj.pk)
        context["voicews"] = {
            "version": version.text if version else "",
            "socket": prefix + session_socket_path(obj.pk),
            "listen_socket": prefix + listen_socket_path(obj.pk),
            "duration_secs": int(obj.duration.total_seconds()) if obj.duration else 0,
            "is_settled": is_settled(obj.ended_at),
            "is_live": obj.state == VoiceSession.State.ACTIVE,
            "is_phone": obj.kind == VoiceSession.Kind.PHONE,
            "partner": partner(obj),
            "ending": ending(obj.close_code),
            "may_end": self.has_end_permission(request),
            "may_message": self.has_message_permission(request),
            "may_listen": self.has_listen_permission(request),
            "default_reason": DEFAULT_REASON,
            "connections": obj.connections.select_related("process").order_by("-epoch")[:MAX_ROWS],
            "events": _newest(obj.events.select_related("operator")),
            "transcript": _newest(obj.transcript.all()),
        }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @non_atomic
    @method_decorator(require_POST)
    def end_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End a call, and tell its client why."""
        session = self._session(request, object_id, allowed=self.has_end_permission(request))
        if self._end(request, session):
            self.message_user(request, _now("The call is being ended."), messages.SUCCESS)
        return self._to_page_of(session)

    @non_atomic
    @method_decorator(require_POST)
    def message_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the client's application a message."""
        session = self._session(request, object_id, allowed=self.has_message_permission(request))
        text = request.POST.get("text", "").strip()
        if not text:
            self.message_user(request, _now("The message was empty."), messages.WARNING)
            return self._to_page_of(session)
        data = {"type": "operator-message", "text": text}
        try:
            send_message(session.pk, data, request.user)
        except NotAllowed as error:
            text = _now("The message was not sent: %s.") % error
            self.message_user(request, text, messages.ERROR)
        else:
            self.message_user(request, _now("The message was sent."), messages.SUCCESS)
        return self._to_page_of(session)

    def _session(self, request: HttpRequest, object_id: str, *, allowed: bool) -> VoiceSession:
        if not allowed:
            raise PermissionDenied
        session = self.get_object(request, unquote(object_id))
        if session is None:
            raise Http404
        return session

    def _to_page_of(self, session: VoiceSession) -> HttpResponseRedirect:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        url = reverse(name, args=[session.pk], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)

    def _end(self, request: HttpRequest, session: VoiceSession, *, quiet: bool = False) -> bool:
        reason = request.POST.get("reason", "").strip() or str(DEFAULT_REASON)
        fits = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        try:
            end_session(session.pk, fits, request.user)
        except NotAllowed as error:
            if not quiet:
                text = _now("The call was not ended: %s.") % error
                self.message_user(request, text, messages.WARNING)
            return False
        return True


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


def _newest(rows: QuerySet[Any]) -> list[Any]:
    return list(rows.order_by("-at", "-id")[:MAX_ROWS])[::-1]
