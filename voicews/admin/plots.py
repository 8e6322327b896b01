"""Plots as numbers that a template draws as SVG: positions and sizes in percent of the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

#: The part of a column's place that stays empty, so that neighbours don't touch.
GAP = 0.25
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a column; `series` is which one, from the bottom."""

    series: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """A stack of segments, and what it is called."""

    label: str
    values: tuple[int, ...]
    segments: tuple[Segment, ...]
    #: The whole place of the column, to point at.
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class ColumnPlot:
    """Stacked columns; `top` is what the upper edge stands for."""

    columns: tuple[Column, ...]
    top: int

    @property
    def total(self) -> int:
        return sum(sum(column.values) for column in self.columns)


def round_top(value: int) -> int:
    """The next round number that is not below `value`: 1, 2, 5, 10, 20, 50..."""
    magnitude = 1
    while True:
        for step in _STEPS:
            if value <= step * magnitude:
                return step * magnitude
        magnitude *= 10


def stacked_columns(labels: Sequence[str], rows: Sequence[Sequence[int]]) -> ColumnPlot:
    """Columns from left to right; `rows` holds the values of each, from the bottom."""
    top = round_top(max((sum(values) for values in rows), default=0))
    place = 100 / max(1, len(labels))
    columns = []
    for index, (label, values) in enumerate(zip(labels, rows, strict=True)):
        x = index * place
        segments = tuple(
            Segment(
                series,
                round(x + place * GAP / 2, 3),
                round(100 - 100 * reached / top, 3),
                round(place * (1 - GAP), 3),
                round(100 * value / top, 3),
            )
            for series, (value, reached) in enumerate(zip(values, accumulate(values), strict=True))
            if value
        )
        columns.append(Column(label, tuple(values), segments, round(x, 3), round(place, 3)))
    return ColumnPlot(tuple(columns), top)


def share(value: float, of: float) -> float:
    """The length of a bar, in percent."""
    return round(min(100.0, 100 * value / of), 2) if of else 0.0
