"""An exported alpha model, run by onnxruntime and numpy: nothing here imports torch."""

from genseg.onnx.model import OnnxModel as OnnxModel
from genseg.onnx.model import load as load
