"""What a run is assembled from, for several processes."""

import pytest
import torch
from torch import nn

from genseg.core.schedule import Plan
from genseg.data.images.views import ViewConfig
from genseg.joint import AlphaConfig
from genseg.methods.byol import BYOLConfig
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.workflows.pretrain.config import DataConfig, NoneConfig, PretrainConfig
from genseg.workflows.pretrain.parts import build_module

PLAN = Plan(images=8, batch=4, total=2)


@pytest.mark.parametrize("alpha", [NoneConfig(), AlphaConfig()], ids=["alone", "with alpha"])
@pytest.mark.parametrize("name", ["resnet18", "tu-mobilenetv3_small_100"])
def test_norms_over_all_processes_keep_the_networks_function(
    name: str, alpha: NoneConfig | AlphaConfig
) -> None:
    """timm's batch norms hold the activations; with the alpha task the module has its encoder in
    two places."""
    torch.manual_seed(0)
    method = BYOLConfig(hidden=8, dim=4)
    config = PretrainConfig(
        run="", data=DataConfig(path=""), method=method, views={"both": ViewConfig()}, alpha=alpha
    )
    images = torch.randn(2, 3, 64, 64)
    made = []
    for sync in (False, True):
        torch.manual_seed(0)
        encoder = build_encoder(EncoderConfig(name))[0]
        module = build_module(config, encoder, PLAN, sync=sync).eval()
        made.append([x.detach() for x in encoder.pyramid(images)])
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert norms and all(isinstance(m, nn.SyncBatchNorm) is sync for m in norms)
    for plain, synced in zip(*made, strict=True):
        torch.testing.assert_close(synced, plain)
