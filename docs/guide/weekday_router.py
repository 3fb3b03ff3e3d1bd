"""A router of one's own: is the day after the window a working day?"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from mixlin.routing import Router


@dataclass(eq=False, repr=False)
class WorkdayRouter(Router):
    """One feature: whether the first step to forecast lies on a working day.

    Parameters
    ----------
    holidays : list of str
        Days off, such as "2024-12-25".
    """

    holidays: list = field(default_factory=list)
    needs_timestamps: ClassVar[bool] = True

    def features(self, windows, timestamps, horizon):
        days = timestamps[:, windows.shape[2]].astype("datetime64[D]")
        works = np.is_busday(days, holidays=np.array(self.holidays, dtype="datetime64[D]"))
        return works.astype(np.float64)[:, None, None]
