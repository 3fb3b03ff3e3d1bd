"""Windows as batches of tensors, cut out of the series when they are asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..mixture import Mixture
from .corrections import features_of
from .window_source import WindowSource

Float64Array = npt.NDArray[np.float64]

_FEATURE_ELEMENTS = 2**25  # of all windows that are kept; where there are more, of a batch only


class Batches:
    """Windows on the device, cut out of the series when they are asked for.

    Parameters
    ----------
    source : WindowSource
    mixture : Mixture
        In units of the channels.
    center, scale : array of shape (C,)
        What data are measured from and in.
    device : torch.device
    """

    def __init__(
        self,
        source: WindowSource,
        mixture: Mixture,
        center: Float64Array,
        scale: Float64Array,
        device: torch.device,
    ) -> None:
        self.source, self.mixture, self._device = source, mixture, device
        self._length = source.lookback + source.horizon
        series = source.series
        if source.windows is not None:
            joined = np.concatenate(source.windows, axis=2)
            series = [row.T for row in joined]
            offset = self._length * source.places[:, 1]
        else:
            begins = np.cumsum([0, *(len(values) for values in series)])
            offset = begins[source.places[:, 0]] + source.places[:, 1]
        rows = (np.concatenate(series) - center) / scale
        self._gaps = bool(np.isnan(rows).any())
        values = torch.from_numpy(np.ascontiguousarray(rows.T)).to(device)
        self._windows = values.unfold(1, self._length, 1)  # (C, n, length), no copy
        self._starts = torch.from_numpy(offset).to(device)
        normalization = mixture.normalization
        self._level = torch.from_numpy(normalization.functional(source.lookback)).to(device)
        self._eps = torch.as_tensor(normalization.eps, dtype=torch.float64, device=device)
        self._weight: torch.Tensor | None = None
        if source.weight is not None:
            parts = source.weight
            if source.windows is not None:
                weight = parts[source.places[:, 1]]
            else:
                weight = np.array([parts[i][t] for i, t in source.places])
            self._weight = torch.from_numpy(weight / weight.mean()).to(device, torch.float32)
        active = source.active
        if active is not None and not active.all():
            on = torch.from_numpy(active.astype(np.float32)).to(device)
            self._active: torch.Tensor | None = on
        else:
            self._active = None
        self._features = self._all_features()

    def __len__(self) -> int:
        return len(self._starts)

    def _all_features(self) -> torch.Tensor | None:
        assert self.mixture.gate is not None
        router, source = self.mixture.gate.router, self.source
        probe = features_of(router, source.block(np.arange(1)), source.horizon)
        if probe.size * len(self) > _FEATURE_ELEMENTS:
            return None
        found = [features_of(router, block, source.horizon) for block in source.blocks()]
        rows = self.mixture.gate.standardized(np.concatenate(found))
        return torch.from_numpy(rows).to(self._device, torch.float32)

    def cut(
        self, numbers: torch.Tensor
    ) -> tuple[tuple[torch.Tensor | None, ...], torch.Tensor, torch.Tensor | None]:
        """Return columns, scale and features of windows, their targets, and weights (n, C)."""
        L = self.source.lookback
        z = self._windows[:, self._starts[numbers]].transpose(0, 1)
        weight = None if self._weight is None else self._weight[numbers][:, None]
        if self._gaps:
            missing = torch.isnan(z).any(dim=2)
            z = torch.where(missing[:, :, None], 0.0, z)
            seen = (~missing).to(torch.float32)
            weight = seen if weight is None else weight * seen
        if self._active is not None:
            weight = self._active[None] if weight is None else weight * self._active
        x, y = z[:, :, :L], z[:, :, L:]
        base = (x @ self._level)[:, :, None]
        columns, scale = (x - base), None
        if self.mixture.normalization.scaled:
            scale = torch.sqrt(x.var(dim=2, correction=0) + self._eps)[:, :, None]
            if self.mixture.scale_coef is not None:
                columns = torch.cat([columns, scale], dim=2)
        riding = scale if self.mixture.pre else None
        features = self._features[numbers] if self._features is not None else self._some(numbers)
        tensors = (columns, riding, features)
        single = tuple(None if t is None else t.to(torch.float32) for t in tensors)
        return single, (y - base).to(torch.float32), weight

    def _some(self, numbers: torch.Tensor) -> torch.Tensor:
        assert self.mixture.gate is not None
        block = self.source.block(numbers.cpu().numpy())
        gate = self.mixture.gate
        found = gate.standardized(features_of(gate.router, block, self.source.horizon))
        return torch.from_numpy(found).to(self._device, torch.float32)
