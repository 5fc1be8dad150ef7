"""A frozen network that the user brings, to learn from: a ViT or ConvNeXt of timm, or an encoder of
genseg.

Its features are one map: the patch tokens of a ViT after its last norm, the last stage of a
ConvNeXt, the last level of an encoder's pyramid. Nothing is fetched unless asked for.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from jaxtyping import Float
from safetensors import safe_open
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn

from genseg.core.names import ENCODER_NAME
from genseg.core.paths import exists, expand
from genseg.core.precision import fast_precision
from genseg.nn.encoder import LoadReport, build_encoder, load_weights
from genseg.nn.encoder_file import facts_of
from genseg.nn.weights import read_facts, read_weights

Colour = tuple[float, ...]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILE = "model.safetensors"  # what the hub calls the weights of a model
UNASKED = ("head.", "fc_norm.", "attn_pool.")  # parts behind the features
# timm's names of ViTs begin so; DINOv3's are classes of its own EVA
VIT = ("vit_", "deit", "eva", "test_vit")
PATCHES = "patch_embed.proj.weight"
# DINOv2's ViTs, which alone have patches of 14 and a layer scale: width and depth
DINOV2 = {(384, 12): "small", (768, 12): "base", (1024, 24): "large", (1536, 40): "giant"}
# from the names of the papers' own code (torch hub) to timm's; those of timm stay
RENAME: dict[type[nn.Module], Callable[[Any, Any], Mapping[str, Tensor]]] = {
    vision_transformer.VisionTransformer: vision_transformer.checkpoint_filter_fn,
    eva.Eva: eva.checkpoint_filter_fn,
    convnext.ConvNeXt: convnext.checkpoint_filter_fn,
}


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher.

    name: of its architecture
    digest: of its file of weights
    mean, std: of each channel, for values in [0, 1], as it has seen them
    loaded: what happened to the names of its file
    """

    name: str
    digest: str
    mean: Colour
    std: Colour
    loaded: LoadReport


class Teacher(nn.Module):
    """Normalised images to features. It stays in evaluation mode, and takes no gradient.

    width: channels of the features; stride: pixels of an image that become one place of them
    precision: in which it computes; None: the fastest that the hardware has, bf16 or float32
    """

    def __init__(self, net: nn.Module, facts: TeacherFacts) -> None:
        super().__init__()
        self.net, self.facts = net.eval().requires_grad_(False), facts
        self.precision: torch.dtype | None = None
        self.width, self.stride = _shape(net)

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def computed(self) -> torch.dtype:
        """The precision in which it computes on its device."""
        return self.precision or fast_precision(self.device)

    @property
    def key(self) -> str:
        """Changes when its features do: digits of the weights, architecture and precision."""
        said = f"{self.facts.digest} {self.facts.name} {self.computed}"
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    def check_side(self, **sides: int) -> None:
        """Raise ValueError naming the first of these sides of images that patches do not divide."""
        for key, side in sides.items():
            if side < self.stride or side % self.stride:
                below = max(self.stride, side // self.stride * self.stride)
                raise ValueError(
                    f"{key}={side}: the teacher {self.facts.name} sees patches of {self.stride} "
                    f"pixels, which do not divide it; use {below} or {below + self.stride}"
                )

    def check_channels(self, channels: int, *, key: str) -> None:
        """Raise ValueError naming `key` unless it takes images of so many channels."""
        if channels != len(self.facts.mean):
            raise ValueError(
                f"{key}: it sees three channels, and the images have {channels}: leave "
                "data.channels out, or name three"
            )

    def seen(
        self, x: Float[Tensor, "b 3 h w"], *, mean: Colour, std: Colour
    ) -> Float[Tensor, "b 3 h w"]:
        """Images that are normalised by `mean` and `std`, in its own normalisation."""
        own_mean, own_std, mean_, std_ = (
            torch.tensor(c)[:, None, None] for c in (self.facts.mean, self.facts.std, mean, std)
        )
        scale, shift = std_ / own_std, (mean_ - own_mean) / own_std
        return x * scale.to(x.device) + shift.to(x.device)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c _h _w"]:
        """Features of images, float32, of h / stride by w / stride places. Raises ValueError for
        sides that the stride does not divide, and where memory does not suffice."""
        self.check_side(height=x.shape[2], width=x.shape[3])
        kind, precision = x.device.type, self.computed
        try:
            with torch.autocast(kind, precision, enabled=precision != torch.float32):
                return self._features(x).float()
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "alloc" in str(error)):
                raise
            raise ValueError(
                f"the teacher {self.facts.name} needs more memory than there is for "
                f"{x.shape[0]} x {x.shape[2]} x {x.shape[3]} pixels; use a smaller side, fewer "
                "images at once, or a smaller teacher"
            ) from None

    def _features(self, x: Tensor) -> Tensor:
        net: Any = self.net
        if isinstance(net, _Pyramid):
            return net(x)
        return net.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[0]


class _Pyramid(nn.Module):
    """An encoder of genseg: the last level of its pyramid."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        facts = facts_of(file)
        if facts.encoder.in_channels != 3:
            raise ValueError(
                f"{file} takes {facts.encoder.in_channels} channels, and a teacher sees three: "
                "give one that was trained on pictures"
            )
        self.encoder, _ = build_encoder(facts.encoder)
        self.loaded = load_weights(self.encoder, file)
        self.name, self.mean, self.std = facts.encoder.name, facts.mean, facts.std
        self.width, side = self.encoder.width, self.encoder.side
        with torch.no_grad():
            level = self.encoder.eval().pyramid(torch.zeros(1, 3, side, side))[-1]
        self.stride = side // level.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.pyramid(x)[-1]


def guard(module: nn.Module, teacher: Teacher, *, key: str, file: str) -> None:
    """Give a module that learns from a teacher the digest of it, as a buffer: it is in the
    checkpoints, where the teacher is not, and weights with another one raise ValueError.

    key: of the config that gives the teacher; file: its value
    """
    own = torch.tensor(list(bytes.fromhex(teacher.facts.digest)))
    module.register_buffer("digest", own.clone())

    def check(_: nn.Module, __: object) -> None:
        if not torch.equal(module.get_buffer("digest").cpu(), own):
            raise ValueError(
                f"{key}={file}: the run has begun with another file of that name; bring that one "
                "back, or start over with --fresh"
            )

    module.register_load_state_dict_post_hook(check)


def load_teacher(weights: str, *, name: str | None = None, download: bool = False) -> Teacher:
    """A frozen teacher on the CPU.

    weights: a .safetensors file, with the key names of timm or of the papers' own code; a run
        directory of genseg with an encoder; or a tag of timm, such as
        vit_small_patch14_dinov2.lvd142m, that is on this machine
    name: timm's name of the file's architecture; needed where neither the file nor a config.json
        beside it says it (DINOv2's ViTs are known by their shapes)
    download: fetch a tag that is not on this machine

    Raises ValueError for what a user can mend: no such file or tag, an architecture that is
    unknown or does not fit, weights of a part of the network alone.
    """
    path = expand(weights)
    if not exists(path):
        if name is not None and name.partition(".")[0] != weights.partition(".")[0]:
            raise ValueError(f"teacher={weights}: there is no such file")
        return _of_timm(_fetched(weights, download=download), weights)
    file = path / ENCODER_NAME if (path / ENCODER_NAME).is_file() else path
    if file.is_dir():
        file = file / FILE
    if not file.is_file():
        raise ValueError(
            f"teacher={weights}: there is neither {ENCODER_NAME} nor {FILE} in it; give a run "
            "directory with an encoder, or a .safetensors file"
        )
    if read_facts(file):
        net = _Pyramid(file)
        if left := (*net.loaded.missing, *net.loaded.misshapen):
            raise ValueError(
                f"teacher={weights}: {len(left)} tensors of the encoder are not in it ({left[0]})"
            )
        facts = TeacherFacts(net.name, _digest(file), net.mean, net.std, net.loaded)
        return Teacher(net, facts)
    return _of_timm(file, name or architecture_of(file))


def _of_timm(file: Path, name: str) -> Teacher:
    """The architecture of that name with the weights of a file."""
    if ":" in name:  # such as hf-hub:, for which timm would ask the network
        raise ValueError(
            f"teacher: {name} is no name of an architecture; give timm's, without what stands "
            "before a colon"
        )
    try:
        # position embeddings are interpolated to other sides; what is no ViT has none
        sides: dict[str, Any] = {"dynamic_img_size": True} if name.startswith(VIT) else {}
        net = timm.create_model(name, pretrained=False, num_classes=0, **sides)
    except (RuntimeError, TypeError, ValueError) as error:
        near = ", ".join(difflib.get_close_matches(name, timm.list_models()))
        raise ValueError(
            f"teacher: timm builds no teacher {name} ({error})"
            + (f"; did you mean {near}?" if near else "; give the name of a ViT or a ConvNeXt")
        ) from None
    if type(net) not in RENAME:
        raise ValueError(
            f"teacher: {name} is no ViT and no ConvNeXt; other networks can be one as an encoder "
            "of genseg, from a run directory"
        )
    loaded = _load(net, file, name)
    known = timm.get_pretrained_cfg(name)
    beside = _beside(file).get("pretrained_cfg") or {}
    mean = _colour(beside.get("mean") or getattr(known, "mean", IMAGENET_MEAN))
    std = _colour(beside.get("std") or getattr(known, "std", IMAGENET_STD))
    return Teacher(net, TeacherFacts(name, _digest(file), mean, std, loaded))


def _colour(values: Any) -> Colour:
    red, green, blue = (float(x) for x in values)
    return red, green, blue


def _load(net: nn.Module, file: Path, name: str) -> LoadReport:
    """Copy the tensors of a file into the network. Raises ValueError unless all that makes features
    is in it."""
    found, own = read_weights(file), net.state_dict()
    wrong = f"{file} does not fit the architecture {name}"
    if PATCHES in found and PATCHES in own and found[PATCHES].shape != own[PATCHES].shape:
        raise ValueError(
            f"teacher: {wrong}: {PATCHES} is {tuple(found[PATCHES].shape)}, wanted "
            f"{tuple(own[PATCHES].shape)}; name the file's own architecture"
        )
    try:
        named = RENAME[type(net)](dict(found), net)
    # timm has no common way to refuse
    except (KeyError, RuntimeError, AttributeError, ValueError, AssertionError) as error:
        raise ValueError(f"teacher: {wrong} ({error})") from None
    fits = {key for key in own.keys() & named.keys() if own[key].shape == named[key].shape}
    asked = {key for key in own if not key.startswith(UNASKED)}
    report = LoadReport(
        loaded=tuple(sorted(fits)),
        missing=tuple(sorted(asked - named.keys())),
        unused=tuple(sorted((named.keys() - own.keys()) | ({"mask_token"} & found.keys()))),
        misshapen=tuple(sorted(asked & named.keys() - fits)),
    )
    if report.missing or report.misshapen:
        raise ValueError(f"teacher: {wrong}: {report}; name the file's own architecture")
    net.load_state_dict({key: named[key] for key in fits}, strict=False)
    return report


def architecture_of(file: Path) -> str:
    """timm's name of a file's architecture, where that is certain. Raises ValueError where not."""
    with safe_open(file, framework="pt") as content:
        said = (content.metadata() or {}).get("timm")
        shapes = {key: content.get_slice(key).get_shape() for key in content.keys()}  # noqa: SIM118
    if name := said or _beside(file).get("architecture"):
        return str(name)
    patches, scale = shapes.get(PATCHES, []), "blocks.0.ls1.gamma" in shapes
    depth = 1 + max((int(k.split(".")[1]) for k in shapes if k.startswith("blocks.")), default=-1)
    if scale and patches[2:] == [14, 14] and (size := DINOV2.get((patches[0], depth))):
        registers = {"register_tokens", "reg_token"} & shapes.keys()
        return f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2"
    raise ValueError(
        f"teacher={file}: the file does not say its architecture; give timm's name of it, such as "
        "vit_base_patch16_224.dino (--teacher-name NAME, or teacher_name=NAME beside the key of "
        "the teacher)"
    )


def _beside(file: Path) -> dict[str, Any]:
    """What timm's config.json beside a file says; nothing where there is none."""
    try:
        said = json.loads((file.parent / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and "architecture" in said else {}


def _fetched(tag: str, *, download: bool) -> Path:
    """The file of a tag of timm, from the hub's folder on this machine, or fetched into it."""
    known = timm.get_pretrained_cfg(tag) if timm.models.is_model(tag.partition(".")[0]) else None
    if known is None or not known.hf_hub_id:
        near = ", ".join(difflib.get_close_matches(tag, timm.list_models(pretrained=True)))
        raise ValueError(
            f"teacher={tag}: there is no file and no run directory of that name, and timm has no "
            "weights of that tag" + (f"; did you mean {near}?" if near else "")
        )
    found = huggingface_hub.try_to_load_from_cache(known.hf_hub_id, FILE)
    if isinstance(found, str):
        return Path(found)
    if not download:
        raise ValueError(
            f"teacher={tag}: its weights are not on this machine. To fetch them: hf download "
            f"{known.hf_hub_id} {FILE} config.json, or add --download; their licence is "
            f"{known.license or 'said there'}"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(known.hf_hub_id, FILE))
    # no network, no such repository, no right to it
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"teacher={tag}: cannot be fetched from {known.hf_hub_id} ({error}); fetch {FILE} on "
            "a machine that can, and give the file"
        ) from None


def _shape(net: Any) -> tuple[int, int]:
    """Channels of the last features, and pixels between two of their places."""
    if isinstance(net, _Pyramid):
        return net.width, net.stride
    last = net.feature_info[-1]
    return int(last["num_chs"]), int(last["reduction"])


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:32]
