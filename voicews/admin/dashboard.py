"""The dashboard: how the calls are doing, on one page of the admin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Q
from django.db.models.functions import Now, TruncHour
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import time_format
from django.utils.text import capfirst

from voicews.admin.endings import TROUBLE_CODES, Text, ending
from voicews.admin.plots import ColumnPlot, share, stacked_columns
from voicews.admin.sessions import local, readable
from voicews.admin.sockets import list_socket_path, list_version, may_use_admin
from voicews.locations import page_prefix
from voicews.models import Dashboard, ServerProcess, VoiceSession

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Dashboard]
else:
    ModelAdmin = admin.ModelAdmin

HOURS = 24
ACTIVE, ENDED = VoiceSession.State.ACTIVE, VoiceSession.State.ENDED


@dataclass(frozen=True, slots=True)
class EndingBar:
    """How many calls ended with one close code."""

    close_code: int
    meaning: Text
    is_trouble: bool
    count: int
    percent: float


@dataclass(frozen=True, slots=True)
class ProcessBar:
    """How full one server process is; `left` is None where nothing limits it."""

    name: str
    is_alive: bool
    draining: bool
    live: int
    capacity: int | None
    left: int | None
    percent: float
    heartbeat_at: datetime


def calls_per_hour(now: datetime) -> ColumnPlot:
    """The calls that began in each of the last hours, those that ended in trouble apart."""
    this_hour = local(now).replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=back) for back in reversed(range(HOURS))]
    rows = (
        VoiceSession.objects.filter(created_at__gte=hours[0], started_at__isnull=False)
        .annotate(hour=TruncHour("created_at"))
        .values("hour")
        .order_by("hour")
        .annotate(
            calls=Count("pk"),
            trouble=Count("pk", filter=Q(state=ENDED, close_code__in=TROUBLE_CODES)),
        )
        .values_list("hour", "calls", "trouble")
    )
    counts = {hour: (calls - trouble, trouble) for hour, calls, trouble in rows}
    labels = [time_format(local(hour), "H:i") for hour in hours]
    return stacked_columns(labels, [counts.get(hour, (0, 0)) for hour in hours])


def endings(since: datetime) -> list[EndingBar]:
    """How the calls ended, the most frequent first."""
    rows = list(
        VoiceSession.objects.filter(ended_at__gte=since)
        .values("close_code")
        .order_by()
        .annotate(count=Count("pk"))
        .values_list("close_code", "count")
    )
    most = max((count for _code, count in rows), default=0)
    bars = []
    for code, count in sorted(rows, key=lambda row: -row[1]):
        found = ending(code)
        bars.append(
            EndingBar(code or 0, found.meaning, found.is_trouble, count, share(count, most))
        )
    return bars


def processes() -> list[ProcessBar]:
    """The server processes that live, and those that were lost lately with calls of theirs."""
    # The rows' own count is as old as the last heartbeat.
    rows = (
        ServerProcess.objects.annotate(
            is_alive=Q(lease_until__gt=Now()),
            live=Count("sessions", filter=Q(sessions__state=ACTIVE)),
        )
        .filter(Q(is_alive=True) | Q(live__gt=0))
        .order_by("host", "pid")
    )
    return [_process_bar(row) for row in rows]


def _process_bar(row: Any) -> ProcessBar:
    left = None
    if row.capacity is not None:
        left = 0 if row.draining or not row.is_alive else max(0, row.capacity - row.live)
    return ProcessBar(
        str(row),
        row.is_alive,
        row.draining,
        row.live,
        row.capacity,
        left,
        share(row.live, row.capacity or 0),
        row.heartbeat_at,
    )


def capacity_left(bars: Sequence[ProcessBar]) -> int | None:
    """Calls that all processes together still take; None if one of them has no limit."""
    taking = [bar for bar in bars if bar.is_alive and not bar.draining]
    if any(bar.left is None for bar in taking):
        return None
    return sum(bar.left or 0 for bar in taking)


def average_duration(since: datetime) -> timedelta | None:
    """Of the calls that ended since then."""
    length = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())
    ended = VoiceSession.objects.filter(ended_at__gte=since, started_at__isnull=False)
    average: timedelta | None = ended.aggregate(average=Avg(length))["average"]
    return average


@admin.register(Dashboard)
class DashboardAdmin(ModelAdmin):
    """One page, in the place of a list; users with permission to view sessions may see it."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return may_use_admin(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.dashboard_view), name=name)]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """The page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        version = list_version()
        now = timezone.now()
        since = now - timedelta(hours=HOURS)
        bars = processes()
        by_reason = endings(since)
        context = {
            **self.admin_site.each_context(request),
            "title": capfirst(self.opts.verbose_name_plural),
            "opts": self.opts,
            "media": self.media,
            "hours": HOURS,
            "calls_now": VoiceSession.objects.filter(state=ACTIVE).count(),
            "per_hour": calls_per_hour(now),
            "endings": by_reason,
            "ended": sum(bar.count for bar in by_reason),
            "trouble": sum(bar.count for bar in by_reason if bar.is_trouble),
            "average_duration": readable(average_duration(since)),
            "processes": bars,
            "capacity_left": capacity_left(bars),
            "takes_calls": any(bar.is_alive and not bar.draining for bar in bars),
            "now": now,
            "voicews": {
                "version": version,
                "socket": page_prefix(request) + list_socket_path(),
            },
        }
        return TemplateResponse(request, "admin/voicews/dashboard.html", context)
