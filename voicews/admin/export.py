"""Rows as a CSV file that a spreadsheet can open without harm, sent as it is made."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

#: Rows that are fetched, and sent, in one go.
CHUNK_ROWS = 500
# Spreadsheets take a cell that begins with one of these for a formula, and formulas can do harm.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text


def cell(value: object) -> str:
    """What a spreadsheet shows as this text, and never runs."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def csv_response(
    request: HttpRequest,
    filename: str,
    header: Iterable[object],
    queryset: QuerySet[Any],
    row: Callable[[Any], Iterable[object]],
) -> StreamingHttpResponse:
    """A download of `row(object)` for each object of a query set, never all of them in memory."""
    writer: Any = csv.writer(_Echo())

    def line(values: Iterable[object]) -> str:
        return str(writer.writerow([cell(value) for value in values]))

    def lines() -> Iterator[str]:
        yield line(header)
        for one in queryset.iterator(CHUNK_ROWS):
            yield line(row(one))

    async def lines_async() -> AsyncIterator[str]:
        yield line(header)
        async for one in queryset.aiterator(CHUNK_ROWS):
            yield line(row(one))

    # With the other kind, Django would collect everything before it sends the first line.
    content = lines_async() if isinstance(request, ASGIRequest) else lines()
    return StreamingHttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )
