"""Fitted batch norms: their statistics are those of the images, and features no longer depend on
brightness."""

import cv2
import numpy as np
import torch

from genseg.data.images.pixels import centre, normalise
from genseg.data.instances.instance import Instance
from genseg.data.labels.box_crops import square_around
from genseg.measure.features import features, fit_batch_norms, instance_features
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


def test_an_instance_is_the_mean_of_its_own_cells_and_a_square_that_of_all() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig()).train()
    view = VIEW | {"size": 128}
    pixels = Noise(20).read(3)[0]
    alpha = np.zeros((16, 20), np.uint8)
    alpha[:, :10] = 255
    alpha[:, 10:] = 64
    instance = Instance(alpha, 12, 14)
    whole = Instance(np.full((40, 40), 255, np.uint8), 0, 4)
    found = instance_features(encoder, pixels, [instance, whole], **view)
    assert encoder.training
    square = pixels[0:, 5:45]  # the image's centre
    encoder.eval()
    plain = features(encoder, Noise(20), [3], **view)
    everything = Instance(np.full((40, 40), 255, np.uint8), 0, 5)
    assert square.shape[:2] == (40, 40)
    same = instance_features(encoder, pixels, [everything], **view, margin=0.0)
    assert torch.allclose(same, plain, atol=1e-4)
    left, top, w, h = instance.box_xywh
    rows, columns = square_around((left, top, left + w, top + h), 40, 50, 0.1)
    side = rows.stop - rows.start
    cut = np.asarray(cv2.resize(pixels[rows, columns], (128, 128)))
    shade = cv2.resize(instance.paint(40, 50)[rows, columns], (128, 128)).astype(float)
    with torch.no_grad():
        one = torch.from_numpy(cut)[None]
        maps = encoder.pyramid(normalise(one, mean=VIEW["mean"], std=VIEW["std"]))[-1][0].numpy()
    total, weights = np.zeros(len(maps)), 0.0
    for y in range(4):
        for x in range(4):
            weight = shade[32 * y : 32 * y + 32, 32 * x : 32 * x + 32].mean()
            total, weights = total + weight * maps[:, y, x], weights + weight
    assert side < 128
    np.testing.assert_allclose(found[0].numpy(), total / weights, rtol=1e-3, atol=1e-4)
    assert instance_features(encoder, pixels, [], **view).shape == (0, 512)
