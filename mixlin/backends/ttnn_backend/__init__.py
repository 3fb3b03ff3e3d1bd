"""The engine on Tenstorrent cards, written against the module ``ttnn``.

Rows travel to the card as one tile tensor per block and come back as one; weights stay there.
The files: ``card`` (a device and its memory), ``tiles`` (what an operation takes and returns),
``engine`` (the operations), ``traces`` (recorded forward passes).
"""

from .engine import TtnnBackend

__all__ = ["TtnnBackend"]
