"""The encoder: any segmentation-models-pytorch pyramid encoder, with torchvision's key names at the
border."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core.check import at_least
from genseg.core.names import ENCODER_NAME
from genseg.core.paths import expand
from genseg.nn.stem import small_stem
from genseg.nn.vit import PlainViT
from genseg.nn.weights import read_weights

MULTIPLE = 32  # sides of what an encoder sees are multiples of its coarsest stride


@dataclass(frozen=True)
class EncoderConfig:
    # an encoder of segmentation-models-pytorch, or tu-NAME for timm's NAME; plain ViTs
    # are for methods alone: they have no pyramid
    name: str = "resnet18"
    stem: Literal["imagenet", "small"] = "imagenet"  # small: 3x3, stride 1, no max-pool, for 32 px
    # null: random | a run directory | a .safetensors file | a tag of smp, or timm for tu-
    weights: str | None = None
    # channels of its input: in pretraining as many as data.channels names, 3 where it names none
    in_channels: int = 3

    def __post_init__(self) -> None:
        at_least(1, in_channels=self.in_channels)
        # timm would fetch it, or read it from any folder; it comes from files of others, too
        if ":" in self.name:
            raise ValueError(
                f"name={self.name}: an encoder is built by a name that timm or "
                "segmentation-models-pytorch knows, and none is fetched from elsewhere; give "
                "tu-NAME for timm's NAME, and its weights by encoder.weights"
            )


@dataclass(frozen=True)
class LoadReport:
    """What happened to the names of a weights file: all tuples hold key names."""

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()  # those of RGB, which were made weights of other channels

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for what in ("missing", "unused", "misshapen"):
            names = getattr(self, what)
            if names:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                parts.append(f"{len(names)} {what} ({shown})")
        if self.adapted:
            parts.append(
                f"{', '.join(self.adapted)} made of RGB's for other channels, as "
                "segmentation-models-pytorch does"
            )
        return "; ".join(parts)


class Encoder(nn.Module):
    """Images to one embedding each: the last level of the pyramid, averaged over places."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        tag = config.weights if _is_tag(config) else None
        # else one size alone
        flexible = {"strict_img_size": False} if config.name.startswith("tu-swin") else {}
        try:
            self.net = smp.encoders.get_encoder(
                config.name, in_channels=config.in_channels, depth=5, weights=tag, **flexible
            )
        # no such name, no pyramid, or no network
        except (KeyError, RuntimeError, OSError, ValueError) as error:
            self.net = _plain_vit(config, tag, error)
        if config.stem == "small":
            small_stem(self.net, config.name)
        self.width: int = self.net.out_channels[-1]
        # pixels of a square image that it takes
        self.side = self.net.side if isinstance(self.net, PlainViT) else _side(config.name)

    def blank(self, side: int = 0) -> Float[Tensor, "1 c side side"]:
        """A square image of nothing, for trying it; side 0: the one that it takes."""
        side = side or self.side
        device = next(self.parameters()).device
        return torch.zeros(1, self.config.in_channels, side, side, device=device)

    def pyramid(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Feature maps from the input itself to the coarsest level."""
        return self.net(x)

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters that are trained, by the finest level of the pyramid that depends on them,
        finest first.

        By gradients, because the order in which modules are registered is not that of depth in all
        encoders.
        """
        trained = [p for p in self.net.parameters() if p.requires_grad]
        training = self.training
        image = self.blank()
        levels = [level for level in self.eval().pyramid(image) if level.requires_grad]
        self.train(training)
        stages = []
        for level in levels:
            if not trained:
                break
            gradients = torch.autograd.grad(
                level.sum(), trained, retain_graph=True, allow_unused=True
            )
            stages.append([p for p, g in zip(trained, gradients, strict=True) if g is not None])
            trained = [p for p, g in zip(trained, gradients, strict=True) if g is None]
        return [stage for stage in stages if stage]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.net(x)[-1].mean((2, 3))

    @torch.no_grad()
    def stride(self) -> int:
        """Pixels between two places of the last level. Raises ValueError where that is no whole
        number."""
        training = self.training
        image = self.blank()
        places = self.eval().pyramid(image)[-1].shape[-1]
        self.train(training)
        if self.side % places:
            raise ValueError(
                f"the encoder's last map has {places} places for {self.side} px: no whole stride"
            )
        return self.side // places

    @torch.no_grad()
    def check_size(self, **sizes: int) -> None:
        """Raise ValueError naming the first of these sides of square images that it does not
        take."""
        training = self.training
        self.eval()
        for name, side in sizes.items():
            try:
                self.net(self.blank(side))
            # timm's models have no common way to refuse
            except (AssertionError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{name}={side}: the encoder takes no images of {side} px ({error}); use "
                    f"{self.side}, or an encoder for images of any size"
                ) from None
        self.train(training)

    def check_strides(self, **sizes: int) -> None:
        """Raise ValueError naming the first of these sides at which a strided convolution sees a
        single pixel.

        Its weights' gradient is uninitialised memory in bf16 on a CPU (torch 2.14).
        """
        seen = list[str]()

        def look(name: str, module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
            if (
                max(module.stride) > 1
                and max(module.kernel_size) > 1
                and min(inputs[0].shape[-2:]) == 1
            ):
                seen.append(name)

        hooks = [
            module.register_forward_pre_hook(partial(look, name))
            for name, module in self.net.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        training = self.training
        self.eval()
        try:
            for key, side in sizes.items():
                self.net(self.blank(side))
                if seen:
                    raise ValueError(
                        f"{key}={side}: {seen[0]} of the encoder sees a single pixel, for which "
                        f"torch's gradients in bf16 on a CPU are wrong; use {2 * side}, "
                        "encoder.stem=small, or precision=no"
                    )
        finally:
            for hook in hooks:
                hook.remove()
            self.train(training)


def build_encoder(
    config: EncoderConfig, *, pyramid: bool = False
) -> tuple[Encoder, LoadReport | None]:
    """The encoder of a config, and what was loaded into it (None for random weights).

    pyramid: all levels of its pyramid will be used, not the last one alone; what is not used is
        frozen

    Raises ValueError when the encoder, the stem or the weights do not exist, or when no tensor of a
    file fits.
    """
    encoder = Encoder(config)
    if pyramid and isinstance(encoder.net, PlainViT):
        raise ValueError(
            f"encoder.name={config.name}: a plain ViT has one level, and the alpha task and "
            "fine-tuning want a pyramid; use resnet50, tu-convnext_tiny or "
            "tu-swin_tiny_patch4_window7_224, or a method of pretraining alone (alpha.name=none)"
        )
    _freeze_unused(encoder, pyramid=pyramid)
    if config.weights is None or _is_tag(config):
        return encoder, None
    path = expand(config.weights)
    if not path.exists():
        raise ValueError(
            f"encoder.weights: there is no file {path}; {config.name} knows {_tags(config.name)}, "
            "any other name is that of a run directory or a .safetensors file"
        )
    return encoder, load_weights(encoder, path / ENCODER_NAME if path.is_dir() else path)


def load_weights(encoder: Encoder, path: Path) -> LoadReport:
    """Copy the tensors of a .safetensors file with torchvision's (or the encoder's own) key names
    into `encoder`."""
    if not path.is_file():
        raise ValueError(f"encoder.weights: there is no file {path}")
    try:
        found = read_weights(path)
    except ValueError as error:
        raise ValueError(f"encoder.weights: {error}") from None
    own = torchvision_state(encoder)
    adapted = _adapted(own, found)
    found |= adapted
    fits = {name for name in own.keys() & found.keys() if own[name].shape == found[name].shape}
    if not any(own[name].ndim for name in fits):  # counters fit in any encoder
        raise ValueError(
            f"encoder.weights: no tensor of {path} fits this encoder; is encoder.name the right "
            "one?"
        )
    with torch.no_grad():
        for name in fits:
            own[name].copy_(found[name])
    return LoadReport(
        loaded=tuple(sorted(fits)),
        missing=tuple(sorted(own.keys() - found.keys())),
        unused=tuple(sorted(found.keys() - own.keys())),
        misshapen=tuple(sorted(own.keys() & found.keys() - fits)),
        adapted=tuple(sorted(adapted)),
    )


def _adapted(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a first convolution of RGB, for other channels, as smp makes them: their sum
    for one, else red, green and blue in turn, so that the sum of all stays as large."""
    made = {}
    for name in own.keys() & found.keys():
        mine, theirs = own[name].shape, found[name].shape
        if len(mine) != 4 or theirs != (mine[0], 3, *mine[2:]) or mine[1] == 3:
            continue
        count = mine[1]
        cycled = found[name][:, [i % 3 for i in range(count)]] * (3 / count)
        made[name] = found[name].sum(1, keepdim=True) if count == 1 else cycled
    return made


def torchvision_state(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's tensors under the names of torchvision (timm's where torchvision has no such
    model)."""
    return {
        name.removeprefix("model."): tensor for name, tensor in encoder.net.state_dict().items()
    }


def _is_tag(config: EncoderConfig) -> bool:
    """Whether the weights are a name that smp (for its own encoders) or timm (`timm`, for tu- ones)
    downloads."""
    if config.name.startswith("tu-"):
        return config.weights == "timm"
    return config.weights in _settings(config.name)


def _settings(name: str) -> dict[str, Any]:
    """smp's pretrained weights of an encoder, by tag."""
    return dict(smp.encoders.encoders.get(name, {}).get("pretrained_settings", {}))


def _plain_vit(config: EncoderConfig, tag: str | None, error: Exception) -> PlainViT:
    """timm's plain ViT of that name, of which smp says `error`. Raises ValueError where it is none,
    or cannot be had."""
    name, channels = config.name, config.in_channels
    if name.startswith("tu-") and "pattern" in str(error):  # its maps do not halve
        try:
            return PlainViT(name.removeprefix("tu-"), pretrained=tag is not None, channels=channels)
        except TypeError:  # it is of another kind
            pass
        except (RuntimeError, OSError, ValueError) as other:  # no such weights, or no network
            error = other
    raise ValueError(_refusal(name, tag, error)) from None


def _tags(name: str) -> str:
    """In words, the tags of an encoder."""
    known = ["timm"] if name.startswith("tu-") else sorted(_settings(name))
    return f"the tags {', '.join(known)}" if known else "no tag"


def _refusal(name: str, tag: str | None, error: Exception) -> str:
    """Why there is no such encoder, and what to do."""
    timms = name.startswith("tu-")
    known = (
        [f"tu-{model}" for model in timm.list_models()]
        if timms
        else smp.encoders.get_encoder_names()
    )
    if name.partition(".")[0] not in known:
        near = ", ".join(difflib.get_close_matches(name, known))
        advice = (
            f"did you mean {near}?"
            if near
            else "give one of segmentation-models-pytorch, or tu-NAME for timm's"
        )
        return f"encoder.name={name}: there is no such encoder; {advice}"
    if not timms or tag is not None:
        return f"encoder.name={name}, encoder.weights={tag}: {error}"
    return (
        f"encoder.name={name}: its feature maps do not halve from level to level ({error}), and it "
        "is no plain ViT; use a pyramid encoder, such as resnet50, tu-convnext_tiny or "
        "tu-swin_tiny_patch4_window7_224"
    )


def _side(name: str) -> int:
    """Pixels of a square image for trying an encoder: few, unless timm has made it for one size
    alone."""
    known = timm.get_pretrained_cfg(name.removeprefix("tu-")) if name.startswith("tu-") else None
    if known is None or not known.fixed_input_size or name.startswith("tu-swin"):
        return 64
    return int(known.input_size[-1])


def _freeze_unused(encoder: Encoder, *, pyramid: bool) -> None:
    """Take from training what is not used (a classifier's last convolution, branches to other
    levels): DDP would wait for it."""
    training = encoder.training
    levels = encoder.eval().pyramid(encoder.blank())
    torch.stack(
        [level.sum() for level in levels[0 if pyramid else -1 :] if level.requires_grad]
    ).sum().backward()
    for p in encoder.train(training).parameters():
        p.requires_grad_(p.grad is not None)
        p.grad = None
