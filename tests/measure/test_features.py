"""Fitted batch norms: their statistics are those of the images, and features no longer depend on
brightness."""

import numpy as np
import torch

from genseg.data.images.pixels import centre, normalise
from genseg.measure.features import features, fit_batch_norms
from genseg.nn.encoder import Encoder, EncoderConfig

VIEW = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


class Noise:
    """Images by number."""

    def __init__(self, brightness: int) -> None:
        self.brightness = brightness

    def read(self, i: int) -> tuple[np.ndarray, int]:
        noise = np.random.default_rng(i).integers(0, 100, (40, 50, 3)) + self.brightness
        return noise.astype(np.uint8), i


def test_the_first_norm_has_the_statistics_of_the_images_in_whole_batches() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    fit_batch_norms(encoder, Noise(20), range(10), batch=4, **VIEW)
    pixels = torch.from_numpy(np.stack([centre(Noise(20).read(i)[0], 32) for i in range(8)]))
    with torch.no_grad():
        y = encoder.net.conv1(normalise(pixels, mean=VIEW["mean"], std=VIEW["std"]))
    norm = encoder.net.bn1
    assert torch.allclose(norm.running_mean, y.mean((0, 2, 3)), atol=1e-4)
    variance = torch.stack([part.var((0, 2, 3)) for part in y.split(4)]).mean(0)
    assert torch.allclose(norm.running_var, variance, rtol=1e-3)
    # the last two images are no batch
    assert int(norm.num_batches_tracked) == 2 and not norm.training


def test_features_of_few_images_are_of_any_batch_size_and_restore_the_mode() -> None:
    encoder = Encoder(EncoderConfig()).train()
    fit_batch_norms(encoder, Noise(0), range(6), **VIEW)
    encoder.train()
    whole = features(encoder, Noise(0), range(6), **VIEW)
    assert encoder.training
    assert torch.allclose(whole, features(encoder, Noise(0), range(6), batch=2, **VIEW), atol=1e-4)
    assert torch.allclose(features(encoder, Noise(0), [4], **VIEW)[0], whole[4], atol=1e-4)


def test_fitted_features_have_a_scale_of_their_own() -> None:
    """Random weights multiply the spread of dark and bright images alike; fitted norms take it
    out."""
    spreads = []
    for fit in (False, True):
        torch.manual_seed(0)
        encoder = Encoder(EncoderConfig())
        if fit:
            fit_batch_norms(encoder, Noise(60), range(32), **VIEW)
        x = features(encoder, Noise(60), range(32), **VIEW)
        spreads.append(float(x.std(0).mean() / x.mean()))
    assert spreads[1] > 2 * spreads[0]
