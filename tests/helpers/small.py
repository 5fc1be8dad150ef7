"""Networks small enough for tests."""

from genseg.alpha.decoder import DecoderConfig

ENCODER = "tu-test_resnet"  # timm's own for tests: 0.4 million weights, ResNet-18 has 11
SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)
