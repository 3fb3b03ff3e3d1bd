"""The engine of Tenstorrent cards on a stand-in for its module, under a name of its own."""

from __future__ import annotations

from collections.abc import Sequence

from mixlin.backends.ttnn_backend import TtnnBackend

from .ttnn.fake_ttnn import FakeTtnn

MODULE = FakeTtnn(n_devices=2)  # one for all instances, as the module would be


class TileBackend(TtnnBackend):
    """The backend as it is, with what it calls replaced."""

    name = "tile"

    def __init__(
        self, device: str | None = None, dtype: str | None = None, options: Sequence[str] = ()
    ) -> None:
        super().__init__(device, dtype, options, module=MODULE)

    @classmethod
    def why_unavailable(cls) -> None:
        return None
