"""A network as an ONNX file whose images may have any size."""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.nn.encoder import MULTIPLE
from genseg.nn.weights import whole

OPSET = 18


def write_onnx(
    network: nn.Module,
    image: Float[Tensor, "b c h w"],
    out: Path,
    *,
    outputs: tuple[str, ...],
    about: dict[str, str] | None = None,
) -> None:
    """Write a network of one input, `image`, whose batch and sides, multiples of 32, are free.

    about: the file's metadata_props. Raises ValueError without onnxscript, WeightsError when the
    disk is full.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise ValueError(f"--out {out} needs ONNX installed: pip install 'genseg[onnx]'")
    free = {
        0: torch.export.Dim("batch"),
        2: MULTIPLE * torch.export.Dim("rows", min=2),
        3: MULTIPLE * torch.export.Dim("columns", min=2),
    }
    program = torch.onnx.export(
        network.eval().to(memory_format=torch.contiguous_format),
        (image,),
        dynamo=True,
        input_names=["image"],
        output_names=list(outputs),
        dynamic_shapes=(free,),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(about or {})
    with whole(out) as temporary:
        program.save(temporary, external_data=False)
