"""Axes of a plot: numbers to positions, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightly_airflow.web.plots import number

TICKS = 5  # at most about so many
LONG = 50  # an axis is logarithmic if its largest number is so many times its smallest, and above 1


@dataclass(frozen=True)
class Axis:
    """Maps numbers from `low` to `high` to positions from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Iterable[float], begin: float, end: float) -> Axis:
        """Return an axis over the values with a little room on both sides, logarithmic for a long tail."""
        numbers = list(values)
        low, high = min(numbers), max(numbers)
        if low > 0 and high > 1 and high / low > LONG:  # shares are easier to read on a linear axis
            return cls(low / 1.2, high * 1.2, begin, end, logarithmic=True)
        room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return cls(0.0 if 0 <= low < 2 * room else low - room, high + room, begin, end)

    @classmethod
    def between(cls, low: float, high: float, begin: float, end: float) -> Axis:
        """Return a linear axis that ends at these numbers."""
        return cls(low, max(high, low + (abs(low) * 0.01 or 1.0)), begin, end)

    def __call__(self, value: float) -> float:
        """Return the position of a number."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round numbers on the axis, and their texts."""
        values = self._decades() if self.logarithmic else self._steps()
        return [(value, number(value)) for value in values if self.low <= value <= self.high]

    def _scaled(self, value: float) -> float:
        return math.log(max(value, self.low)) if self.logarithmic else value

    def _steps(self) -> list[float]:
        raw = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
        first = math.ceil(self.low / step)
        return [round((first + position) * step, 12) for position in range(TICKS + 2)]

    def _decades(self) -> Sequence[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1, 2, 5) if last - first <= 3 else (1,)
        apart = max(1, (last - first) // TICKS)
        return [factor * 10.0**power for power in range(first, last + 1, apart) for factor in factors]
