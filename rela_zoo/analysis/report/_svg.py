"""Curves and bars as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 40


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span a range.

    Examples:
        >>> ticks(0.0, 0.9)
        [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number on an axis: `1.2M`, `40k`, `0.25`.

    Examples:
        >>> [short(one) for one in (1_200_000, 40_000, 0.25, 7)]
        ['1.2M', '40k', '0.25', '7']
    """
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if mark == 'k' else size):.3g}{mark}"
    return f"{value:.4g}"


class _Frame:
    """Axes over a range, and where a point of it lies."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self._y = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self._x, self._y
        across = _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)
        return round(across, 1), round(_HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM), 1)

    def axes(self, label: str, x_ticks: Sequence[float] | None = None) -> list[str]:
        parts = []
        bottom = _HEIGHT - _BOTTOM
        for value in ticks(*self._y):
            _, y = self.at(self._x[0], value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{short(value)}</text>')
        for value in ticks(*self._x) if x_ticks is None else x_ticks:
            x, _ = self.at(value, self._y[0])
            parts.append(f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{short(value)}</text>')
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(label)}</text>')
        return parts


def _svg(title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
    return "\n".join([head, *parts, "</svg>"])


def curve(
    title: str, points: Sequence[tuple[float, float]], label: str, *, until: float | None, end: float | None = None
) -> str:
    """A curve through points; non-finite values are left out.

    Args:
        title: for readers that don't see it.
        points: (x, y), by rising x.
        label: of the x axis.
        until: x up to which the accelerated stage ran, which is shaded; None or 0 for none.
        end: of the x axis, if beyond the points.
    """
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return _svg(title, ['<text x="60" y="60">no finite value</text>'])
    low, high = min(y for _, y in points), max(y for _, y in points)
    # Numbers on the axis have four digits: a narrower range would show one number many times.
    room = max(0.05 * (high - low), 5e-4 * max(abs(low), abs(high)))
    frame = _Frame((0.0, max(points[-1][0], end or 0.0)), (low - room, high + room))
    parts = []
    if until:
        left, right = frame.at(0.0, low)[0], frame.at(until, low)[0]
        height = _HEIGHT - _TOP - _BOTTOM
        parts.append(f'<rect class="stage" x="{left}" y="{_TOP}" width="{right - left:.1f}" height="{height}"/>')
    parts += frame.axes(label)
    places = [frame.at(*point) for point in points]
    if len(places) > 1:
        parts.append(f'<polyline points="{" ".join(f"{x},{y}" for x, y in places)}"/>')
    if len(places) <= 60:
        parts += [f'<circle cx="{x}" cy="{y}" r="2.2"/>' for x, y in places]
    return _svg(title, parts)


def bars(title: str, counts: Sequence[tuple[int, int]], label: str) -> str:
    """A bar a value.

    Args:
        title: for readers that don't see it.
        counts: (value, how many), by rising value, not empty.
        label: of the x axis.
    """
    low, high = counts[0][0], counts[-1][0]
    frame = _Frame((low - 0.6, high + 0.6), (0.0, max(count for _, count in counts) * 1.05))
    whole = [one for one in ticks(low, high) if float(one).is_integer()]
    parts = frame.axes(label, whole)
    for value, count in counts:
        left, top = frame.at(value - 0.4, count)
        right, bottom = frame.at(value + 0.4, 0.0)
        place = f'x="{left}" y="{top}" width="{max(0.5, right - left):.1f}" height="{bottom - top:.1f}"'
        parts.append(f'<rect class="bar" {place}><title>{value}: {count:,}</title></rect>')
    return _svg(title, parts)
