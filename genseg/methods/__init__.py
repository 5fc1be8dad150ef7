"""The methods: one paper a file, one contract (`genseg.methods.method.Method`)."""

from genseg.methods.byol import BYOL, BYOLConfig
from genseg.methods.distill import Distill, DistillConfig
from genseg.methods.method import Method
from genseg.methods.moco import MoCo, MoCoConfig
from genseg.methods.simclr import SimCLR, SimCLRConfig
from genseg.methods.simmim import SimMIM, SimMIMConfig
from genseg.methods.supervised import Supervised, SupervisedConfig
from genseg.methods.swav import SwAV, SwAVConfig

METHODS: dict[str, tuple[type[Method], type]] = {
    "moco": (MoCo, MoCoConfig),
    "simclr": (SimCLR, SimCLRConfig),
    "byol": (BYOL, BYOLConfig),
    "swav": (SwAV, SwAVConfig),
    "simmim": (SimMIM, SimMIMConfig),
    "distill": (Distill, DistillConfig),
    "supervised": (Supervised, SupervisedConfig),
}
