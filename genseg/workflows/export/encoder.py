"""A run's encoder for other libraries."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from genseg.core.names import CHECKPOINTS, CONFIG_NAME, ENCODER_NAME, METRICS_NAME
from genseg.core.result import Result
from genseg.nn.encoder_file import encoder_file, facts_of, refuse_more
from genseg.nn.weights import read_facts, read_weights, save_weights, whole
from genseg.workflows.export.timm_folder import save_timm_folder


@dataclass(frozen=True)
class Exported(Result):
    """A model as another library reads it. how: what reads it, in words or lines of Python."""

    out: Path
    source: Path
    tensors: int
    how: str = ""

    def text(self) -> str:
        return f"{self.tensors} tensors of {self.source} in {self.out}{self.how}"


def export(run: Path, out: Path, *, prefix: str = "") -> Exported:
    """Write the encoder of `run` to `out`.

    `out` ending in .safetensors or .pth: a state dict with torchvision's key names behind `prefix`
    (such as `backbone.body.` for torchvision's Mask R-CNN). Otherwise a folder for timm, which
    takes no prefix. Raises ValueError when the run has no encoder yet, or timm no such model.
    """
    source = encoder_file(run)
    refuse_run(out)
    if out == Path():
        raise ValueError(
            "--out names neither a file nor a folder of its own; give one, such as --out "
            "encoder.pth"
        )
    if names_file(out) and out.resolve() == source.resolve():
        raise ValueError(
            f"--out {out} is the run's own encoder, and would be overwritten; choose another file"
        )
    refuse_more(source, read_facts(source))
    tensors = {prefix + name: tensor for name, tensor in read_weights(source).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".safetensors":
        save_weights(tensors, out, asdict(facts_of(source)))
    elif out.suffix == ".pth":
        save_pth(tensors, out)
    elif names_file(out):
        raise ValueError(f"--out {out}: end it in .safetensors or .pth, or name a folder for timm")
    elif prefix:
        raise ValueError(
            "--prefix is for state dicts, and timm knows its own names: leave it out, or --out "
            f"{out}.pth"
        )
    elif not save_timm_folder(source, out):
        raise ValueError(
            f"timm has no model that computes what {source} does; write {out / ENCODER_NAME} "
            "instead"
        )
    return Exported(out, source, len(tensors))


def names_file(out: Path) -> bool:
    """Whether a path is meant as a file, by its ending; a folder may be called v1.0."""
    return bool(out.suffix) and not out.suffix[1:].isdigit()


def refuse_run(out: Path) -> None:
    """Raise ValueError when `out` is a run directory: a folder for timm or smp has files of the
    same names."""
    if found := next(
        (name for name in (CONFIG_NAME, CHECKPOINTS, METRICS_NAME) if (out / name).exists()),
        None,
    ):
        raise ValueError(
            f"--out {out} is a run directory (it has {found}), whose files would be overwritten; "
            "choose another folder, or end it in .safetensors or .pth"
        )


def save_pth(tensors: Mapping[str, Tensor], out: Path) -> None:
    """Write a state dict as torch does. Raises WeightsError when the disk is full."""
    made = io.BytesIO()
    torch.save(dict(tensors), made)  # into a file torch would hide why it cannot write
    with whole(out) as temporary:
        temporary.write_bytes(made.getbuffer())
