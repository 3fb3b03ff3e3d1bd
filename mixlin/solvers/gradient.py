"""Training mixtures with torch, through the forward pass that also predicts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import clone
from torch.nn import functional

from ..backends.torch_backend import TorchBackend
from ..layers import Layer
from ..mixture import Mixture, Placed, compute, place
from .alternating import residual_of, single_expert, usage_of
from .balancing import Balancing, named_balancing
from .gradient_batches import Batches
from .gradient_start import beginning, fits, in_units
from .mixture_task import FitInterruptedWarning, MixtureSolution, MixtureTask
from .window_source import WindowSource

if TYPE_CHECKING:
    from .gradient_solver import GradientSolver

Float64Array = npt.NDArray[np.float64]

_EVALUATED = 2**21  # forecasts of experts that are held at a time in evaluation
_CLOSED = -1e20  # the logit of an expert that dropout leaves out


class TrainingBackend(TorchBackend):
    """The torch engine with what a gate has in training only: noise, dropout, balancing."""

    def __init__(self, device: str, noise: float, dropout: float, balancing: Balancing | None):
        super().__init__(device, "float32")
        self.noise, self.dropout, self.balancing = noise, dropout, balancing
        self.training = False
        self.progress = 0.0
        self.generator: torch.Generator | None = None  # of this training alone
        self.penalty: torch.Tensor | None = None
        self._load: torch.Tensor | None = None

    def _product(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Multiply in one product: in training, rows may round as they like, and it is faster."""
        if len(w) == 1:
            return x @ w[0]
        by_channel = x.movedim(1, 0)
        rows = by_channel.reshape(x.shape[1], -1, x.shape[-1])
        out = rows @ w
        return out.reshape(len(w), *by_channel.shape[1:-1], w.shape[2]).movedim(0, 1)

    def gate(
        self,
        logits: torch.Tensor,
        top_k: int | None = None,
        temperature: float = 1.0,
        scores: Any = (),
    ) -> torch.Tensor:
        if not self.training:
            return super().gate(logits, top_k, temperature, scores)
        n_experts = logits.shape[-1]
        plain = logits
        like: dict[str, Any] = {
            "generator": self.generator,
            "device": logits.device,
            "dtype": logits.dtype,
        }
        if self.noise:
            logits = logits + self.noise * torch.randn(logits.shape, **like)
        if self.dropout:
            drawn = torch.rand(logits.shape, **like)
            logits = logits.masked_fill(drawn < self.dropout, _CLOSED)
        k = n_experts if top_k is None else top_k
        ranked = logits
        if self.balancing is not None and self._load is not None:
            shift = self.balancing.shift(self._load, self.progress)
            ranked = logits if shift is None else logits + shift
        best = torch.topk(ranked, k, dim=-1).indices
        chosen = torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, best, True)
        if k < n_experts:
            logits = logits.masked_fill(~chosen, -torch.inf)
        gates = super().gate(logits, None, temperature, scores)
        if self.balancing is not None:
            rows = [t.reshape(-1, n_experts) for t in (plain / temperature, gates, chosen)]
            self._load = rows[2].to(gates.dtype).mean(dim=0).detach()
            scaled, mixed, best_k = rows
            self.penalty = self.balancing.loss(scaled, mixed, best_k, self.noise / temperature)
        return gates


def train(
    solver: GradientSolver, task: MixtureTask, training: WindowSource, held_out: WindowSource
) -> MixtureSolution:
    """Train a mixture.

    Parameters
    ----------
    solver : GradientSolver
    task : MixtureTask
    training, held_out : WindowSource

    Returns
    -------
    MixtureSolution
    """
    rng = task.random_state
    start = task.centered_start(solver.validation)
    center = np.broadcast_to(start.reference, task.scale.shape)
    scaled = in_units(start, center, task.scale)
    goes_on = solver.warm_start and fits(task.previous, scaled, task)
    if goes_on:
        assert task.previous is not None
        begin = in_units(task.previous, center, task.scale)
        assert begin.gate is not None
        temperature = task.router.temperature
        begin = replace(begin, gate=replace(begin.gate, top_k=task.top_k, temperature=temperature))
    else:
        begin = beginning(solver, task, training, scaled, rng)
    return _Training(solver, task, training, held_out, begin, center).run()


class _Training:
    """One run of training."""

    def __init__(
        self,
        solver: GradientSolver,
        task: MixtureTask,
        training: WindowSource,
        held_out: WindowSource,
        begin: Mixture,
        center: Float64Array,
    ) -> None:
        self.solver, self.task, self.center = solver, task, center
        self.normalization = task.start(solver.validation).mixture().normalization
        balancing = named_balancing(solver.balancing)
        router = task.router
        self.backend = TrainingBackend(
            solver.device,
            router.noise,
            router.head_dropout,
            None if balancing is None else clone(balancing),
        )
        self.backend.open()
        device = self.backend.put(np.zeros(1)).device
        self.template = begin
        self.placed = place(begin, self.backend)
        self.tensors = [t.requires_grad_() for t in _tensors(self.placed)]
        self.training = Batches(training, begin, center, task.scale, device)
        self.held_out = Batches(held_out, begin, center, task.scale, device)
        self.device = device
        self.backend.generator = torch.Generator(device=device)
        self.backend.generator.manual_seed(int(task.random_state.randint(2**31 - 1)))

    def run(self) -> MixtureSolution:
        solver, task = self.solver, self.task
        single = self._single_loss()
        history: list[dict[str, Any]] = [
            {"n_experts": 1, "gates": "single expert", "validation_loss": single}
        ]
        best, kept = self._train(history)
        _restore(self.tensors, kept)
        mixture = self._mixture()
        start = task.start(solver.validation)
        if solver.min_gain is not None and not best <= (1.0 - solver.min_gain) * single:
            return single_expert(task, history, None if solver.refit else start)
        squared = self._mean_loss(self._forecast, "mse"), self._single_loss("mse")
        ratio = squared[0] / squared[1] if squared[1] > 0 else 1.0
        assert mixture.gate is not None
        return MixtureSolution(
            mixture,
            usage_of(task.windows, mixture.gate),
            partial(residual_of, start, ratio),
            history,
        )

    def _train(self, history: list[dict[str, Any]]) -> tuple[float, list[torch.Tensor]]:
        solver = self.solver
        optimizer = torch.optim.Adam(
            self.tensors, lr=solver.learning_rate, weight_decay=solver.weight_decay
        )
        kept = [t.detach().clone() for t in self.tensors]
        best, since = self._held_out_loss(), 0
        history.append(
            {"epoch": 0, "learning_rate": 0.0, "training_loss": None, "validation_loss": best}
        )
        try:
            for epoch in self._epochs():
                rate = _rate(solver, epoch)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                self.backend.progress = epoch / solver.max_epochs
                loss = self._epoch(optimizer)
                found = self._held_out_loss()
                history.append(
                    {
                        "epoch": epoch + 1,
                        "learning_rate": rate,
                        "training_loss": loss,
                        "validation_loss": found,
                    }
                )
                if not math.isfinite(loss) or not math.isfinite(found):
                    warnings.warn(
                        f"training stopped in epoch {epoch + 1}: the loss is no longer finite. The "
                        "weights of the best epoch before are kept. Use a smaller learning_rate.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                    break
                since += 1
                if found < best or not math.isfinite(best):
                    best, since = found, 0
                    kept = [t.detach().clone() for t in self.tensors]
                if since >= solver.patience:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"training was interrupted after {len(history) - 2} epochs; the weights of the "
                "best one are kept.",
                FitInterruptedWarning,
                stacklevel=2,
            )
        return best, kept

    def _epochs(self) -> Any:
        if not self.solver.verbose:
            return range(self.solver.max_epochs)
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError(
                "verbose=True shows a bar of tqdm, which is not installed: pip install tqdm."
            ) from error
        return tqdm(range(self.solver.max_epochs), desc="epochs")

    def _epoch(self, optimizer: torch.optim.Optimizer) -> float:
        """Train on every window once; return the mean loss."""
        solver, backend = self.solver, self.backend
        order = torch.randperm(len(self.training), generator=backend.generator, device=self.device)
        total = torch.zeros((), device=self.device)
        n = 0
        backend.training = True
        try:
            for numbers in torch.split(order, solver.batch_size):
                tensors, target, weight = self.training.cut(numbers)
                found = compute(self.placed, backend, *tensors).forecast
                loss = _loss(solver.loss, found, target, weight)
                total += loss.detach() * len(numbers)
                n += len(numbers)
                if backend.penalty is not None and backend.balancing is not None:
                    share = backend.balancing.weight_at(backend.progress)
                    loss = loss + share * backend.penalty
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
        finally:
            backend.training = False
            backend.penalty = None
        return float(total) / n

    def _forecast(self, tensors: tuple[torch.Tensor | None, ...]) -> torch.Tensor:
        found: torch.Tensor = compute(self.placed, self.backend, *tensors).forecast
        return found

    def _held_out_loss(self) -> float:
        return self._mean_loss(self._forecast, self.solver.loss)

    def _single_loss(self, kind: str | None = None) -> float:
        """Return the held-out loss of the exact single expert."""
        start = in_units(
            self.task.start(self.solver.validation).mixture(), self.center, self.task.scale
        )
        columns, bias = start.packed
        weights = self.backend.put(columns)
        constant = start.bias if bias is None and start.bias is not None else None
        shift = None if constant is None else self.backend.put(constant[:, 0])
        width = columns.shape[1]

        def single(tensors: tuple[torch.Tensor | None, ...]) -> torch.Tensor:
            assert tensors[0] is not None
            found = self.backend.linear(tensors[0][..., :width], weights)
            return found if shift is None else found + shift

        return self._mean_loss(single, kind or self.solver.loss)

    def _mean_loss(self, forecast: Any, kind: str) -> float:
        size = max(1, _EVALUATED // (self.template.weights.shape[1] * self.template.horizon))
        size = max(1, size // self.held_out.source.n_channels)
        total, n = 0.0, 0
        with torch.no_grad():
            for numbers in torch.split(torch.arange(len(self.held_out), device=self.device), size):
                tensors, target, weight = self.held_out.cut(numbers)
                loss = _loss(kind, forecast(tensors), target, weight)
                total += float(loss) * len(numbers)
                n += len(numbers)
        return total / n

    def _mixture(self) -> Mixture:
        """Return what was trained as data, in the units of the data."""
        template, scale = self.template, self.task.scale
        found = iter(t.detach().cpu().numpy().astype(np.float64) for t in self.tensors)
        groups, E, L, H = template.weights.shape
        columns = next(found)
        groups = len(columns)
        parts = columns.reshape(groups, -1, E, H)
        bias = None
        if template.bias is not None:
            bias = next(found).reshape(-1, E, H)

        def layer(old: Layer) -> Layer:
            weight = next(found)
            if old.bias is None:
                return replace(old, weight=weight)
            return replace(old, weight=weight, bias=next(found).reshape(old.bias.shape))

        assert template.gate is not None
        gate = replace(template.gate, layers=tuple(layer(la) for la in template.gate.layers))
        pre = tuple(replace(b, layers=tuple(layer(la) for la in b.layers)) for b in template.pre)
        if bias is not None:
            active = self.task.windows.active
            units = scale if active is None else scale * active
            bias = bias * units[:, None, None]
            bias = bias[:1] if len(bias) > 1 and not np.ptp(bias, axis=0).any() else bias
        return replace(
            template,
            weights=np.ascontiguousarray(parts[:, :L].transpose(0, 2, 1, 3)),
            scale_coef=None if template.scale_coef is None else parts[:, L],
            bias=bias,
            normalization=self.normalization,
            reference=np.asarray(self.center, dtype=np.float64),
            gate=gate,
            pre=pre,
        )


def _tensors(placed: Placed) -> Iterator[torch.Tensor]:
    """Yield what is trained: the product, its bias, the gate's layers, the layers before."""
    assert placed.gate is not None
    yield placed.weights
    if placed.bias is not None:
        yield placed.bias
    for layer in (*placed.gate.layers, *(la for block in placed.pre for la in block.layers)):
        yield layer.weight
        if layer.bias is not None:
            yield layer.bias


def _restore(tensors: list[torch.Tensor], kept: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)


def _loss(
    kind: str, forecast: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    functions: dict[str, Any] = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": functional.huber_loss,
    }
    function: Callable[..., torch.Tensor] = functions[kind]
    if weight is None:
        return function(forecast, target)
    each = function(forecast, target, reduction="none").mean(dim=2)
    whole = weight.expand_as(each)
    return (each * whole).sum() / whole.sum().clamp_min(1e-12)


def _rate(solver: GradientSolver, epoch: int) -> float:
    share = epoch / solver.max_epochs
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * share)),
        "exponential": 0.9**epoch,
        "halving": 0.5**epoch,
    }[solver.schedule]
    return float(solver.learning_rate * factor)
