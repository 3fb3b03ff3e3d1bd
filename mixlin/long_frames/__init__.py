"""Long frames: many series one under another, their ids, times and steps."""

from .clock import Clock
from .columns import PARTS, Columns, is_long_frame, long_columns
from .frames import LongFrame, read_long_frame
from .search import find_steps
from .steps import Steps

__all__ = [
    "PARTS",
    "Clock",
    "Columns",
    "LongFrame",
    "Steps",
    "find_steps",
    "is_long_frame",
    "long_columns",
    "read_long_frame",
]
