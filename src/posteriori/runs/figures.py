"""Numbers and times as a reader of a terminal wants them."""

import math


def number(value: float, digits: int = 1) -> str:
    """Write a number, or a dash for NaN; large ones need no decimals."""
    digits = 0 if abs(value) >= 10_000 else digits
    return "–" if math.isnan(value) else f"{value:,.{digits}f}"


def clock(seconds: float) -> str:
    """Write a time as 4:05 or 1:04:05, or a dash if it is not known."""
    if not math.isfinite(seconds):
        return "–"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
