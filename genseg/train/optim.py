"""Optimisers, parameter groups and the learning rate of a step."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genseg.core.check import above, at_least, between
from genseg.core.schedule import Plan, Scaling, check_durations, cosine, scaled_lr

KEYS = {
    "momentum": ("sgd", "lars"),
    "betas": ("adamw",),
    "decay_all": ("sgd", "adamw"),
    "trust": ("lars",),
    "lr_in_momentum": ("lars",),
}  # of some optimisers alone


@dataclass(frozen=True)
class OptimizerConfig:
    name: Literal["sgd", "adamw", "lars"] = "sgd"
    lr: float = 0.05  # for a global batch of 256, see scaling
    scaling: Scaling = "linear"  # how lr grows with the global batch
    momentum: float = 0.9  # momentum of sgd and lars
    betas: tuple[float, float] = (0.9, 0.999)  # betas of adamw
    weight_decay: float = 1e-4
    decay_all: bool = False  # true: decay biases and norms, too, as MoCo does; not with lars
    warmup: str = "0 epochs"  # the learning rate rises linearly for this long
    final_lr: float = 0.0  # learning rate at the end, as a fraction of lr
    trust: float = 0.001  # eta of lars
    # form of lars: true as in SimCLR, false as in BYOL and SwAV
    lr_in_momentum: bool = False
    clip: float = 0.0  # largest gradient norm; 0: no clipping

    def __post_init__(self) -> None:
        check_durations(warmup=self.warmup)
        above(0, lr=self.lr, trust=self.trust)
        at_least(0, weight_decay=self.weight_decay, final_lr=self.final_lr, clip=self.clip)
        between(0, 1, momentum=self.momentum)
        between(0, 0.99999, **{f"betas[{i}]": b for i, b in enumerate(self.betas)})
        for key, names in KEYS.items():
            if self.name not in names and getattr(self, key) != getattr(type(self), key):
                raise ValueError(
                    f"{key} has no effect with name={self.name}: leave it out or use "
                    f"{' or '.join(names)}"
                )


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., 2017).

    For p with gradient g: u = (g + wd p) * trust |p| / |g + wd p|, then
    * `lr_in_momentum=False` (BYOL): v = m v + u,      p -= lr v
    * `lr_in_momentum=True` (SimCLR): v = m v + lr u,   p -= v Parameters of at most one dimension
    take neither weight decay nor the trust ratio, as in SimCLR and BYOL. SwAV's own code (apex)
    gives them both, and divides by |g| + wd |p|, which at its weight decay of 1e-6 is nearly the
    same.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, object]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        lr_in_momentum: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, {**defaults, "lr_in_momentum": lr_in_momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        update = p.grad
        assert update is not None
        if p.ndim > 1:
            update = update + group["weight_decay"] * p
            scale = group["trust"] * p.norm() / update.norm()
            update = update * torch.where(
                scale.isfinite() & (scale > 0), scale, torch.ones_like(scale)
            )
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        v = state["momentum_buffer"]
        inside, outside = (group["lr"], 1.0) if group["lr_in_momentum"] else (1.0, group["lr"])
        v.mul_(group["momentum"]).add_(update, alpha=inside)
        p.sub_(v, alpha=outside)


class SGD(torch.optim.SGD):
    """torch's SGD for parameters of which some are frozen at first.

    Its fused form wants the momentum buffers of a group all there or all missing, and what was
    frozen has none. A
    buffer of zeros gives the same first step: momentum times 0, plus the gradient.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            fresh = [p for p in moving if self.state.get(p, {}).get("momentum_buffer") is None]
            if group["momentum"] and 0 < len(fresh) < len(moving):
                for p in fresh:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return super().step(closure)


def build_optimizer(
    config: OptimizerConfig,
    module: nn.Module,
    plan: Plan,
    *,
    fused: bool = True,
    scales: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimiser over all parameters with gradient, in groups: decayed or not (biases, norms:
    ndim <= 1).

    `fused` takes a third of the time on a CPU; not for fp16, where the scaler must see which steps
    are skipped. `scales`: parameters in groups of their own, and what part of the learning rate
    they have; it is kept in the group's "scale", from where the loop takes it.
    """
    scales = scales or {}
    gathered: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for p in module.parameters():
        if p.requires_grad:
            decayed = config.decay_all or p.ndim > 1
            gathered.setdefault((decayed, scales.get(p, 1.0), p in scales), []).append(p)
    groups: list[dict[str, object]] = [
        {
            "params": gathered[key],
            "weight_decay": config.weight_decay if key[0] else 0.0,
            "scale": key[1],
        }
        for key in sorted(gathered, reverse=True)
    ]
    lr = scaled_lr(config.lr, plan.batch, config.scaling)
    if config.name == "sgd":
        return SGD(groups, lr=lr, momentum=config.momentum, fused=fused)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=fused)
    assert config.name == "lars"
    return LARS(
        groups,
        lr=lr,
        momentum=config.momentum,
        trust=config.trust,
        lr_in_momentum=config.lr_in_momentum,
    )


def restore_strides(optimizer: torch.optim.Optimizer) -> None:
    """Give a loaded state the strides of its parameters: fused optimisers walk memory, whatever the
    shape says."""
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                state[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)


def lr_at(config: OptimizerConfig, plan: Plan, step: int) -> float:
    """Learning rate of update `step` (from 0): warm-up, then half a cosine over the rest of the
    run."""
    peak = scaled_lr(config.lr, plan.batch, config.scaling)
    warmup = plan.steps(config.warmup)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * cosine((step - warmup) / max(plan.total - warmup, 1), 1.0, config.final_lr)
