"""What a teacher makes of images of other sizes."""

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from genseg.data.images.teacher_features import look
from genseg.nn.teacher import Teacher, load_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    found = load_teacher(str(file), name="test_vit")
    found.precision = torch.float32
    return found


def test_images_become_squares_in_the_teachers_own_colours(teacher: Teacher) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, 60, 3), np.uint8) for h in (40, 97)]
    found = look(teacher, images, side=48)
    assert found.shape == (2, teacher.width, 3, 3)
    mean, std = (np.array(c) for c in (teacher.facts.mean, teacher.facts.std))
    for image, features, how in zip(images, found, (cv2.INTER_LINEAR, cv2.INTER_AREA), strict=True):
        pixels = (cv2.resize(image, (48, 48), interpolation=how) / 255 - mean) / std
        x = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None]).float()
        torch.testing.assert_close(features, teacher(x)[0], atol=1e-4, rtol=1e-4)


def test_a_side_that_the_patches_do_not_divide(teacher: Teacher) -> None:
    with pytest.raises(ValueError, match="patches of 16"):
        look(teacher, [np.zeros((50, 50, 3), np.uint8)], side=50)
