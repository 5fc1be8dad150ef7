"""A run for another library: which of its models, and by whom it is written."""

from pathlib import Path

from genseg.core.names import ALPHA_NAME
from genseg.workflows.export.alpha_onnx import HOW, write_alpha
from genseg.workflows.export.encoder import Exported, export_encoder, refuse_run
from genseg.workflows.export.model import export_model, is_finetuned


def export(run: Path, out: Path, *, prefix: str = "") -> Exported:
    """Write the fine-tuned model of `run`, its alpha model where `out` ends in .onnx, or else its
    encoder.

    prefix: goes before every key of an encoder's state dict. Raises ValueError for what does not
    go.
    """
    finetuned, onnx = is_finetuned(run), out.suffix == ".onnx"
    if prefix and (finetuned or onnx):
        raise ValueError(
            "--prefix is for encoders; a model of genseg finetune, and ONNX, keep their names: "
            "leave it out"
        )
    if finetuned:
        return export_model(run, out)
    if not onnx:
        return export_encoder(run, out, prefix=prefix)
    file = run / ALPHA_NAME if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            f"--out {out}: there is no {file}, and ONNX is for runs with the alpha task, "
            "segmenters and places; write an encoder as a state dict (--out FILE.pth)"
        )
    refuse_run(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    return Exported(out, file, write_alpha(file, out), HOW)
