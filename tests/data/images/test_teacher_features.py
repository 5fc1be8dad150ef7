"""Features of all images on disk: those of the images one by one, and made once."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from genseg.data.images.cache import CacheError
from genseg.data.images.files import fingerprint, list_images
from genseg.data.images.source import ImageSource, decode
from genseg.data.images.teacher_features import look, teacher_features
from genseg.nn.teacher import Teacher, load_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    return load_teacher(str(file), name="test_vit")


def test_features_of_all_images_are_kept(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40 + i, 60, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "1.png").write_bytes(b"broken")
    images = list_images(str(folder))

    def kept(side: int = 48) -> np.ndarray:
        source = ImageSource(images, None)
        return teacher_features(teacher, source, content=fingerprint(images), side=side, batch=2)

    found = np.array(kept())
    assert (found.shape, found.dtype) == ((3, 64, 3, 3), np.float16)
    for i in (0, 2):
        alone = look(teacher, [decode(images.path(i))], side=48)[0].numpy()
        np.testing.assert_allclose(found[i], alone, rtol=0.02, atol=0.02)
    assert not found[1].any()
    file = next((tmp_path / "cache" / "features").iterdir())
    written = file.stat().st_mtime_ns
    assert np.array_equal(kept(), found)
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-5])  # cut short: made anew
    assert np.array_equal(kept(), found)
    kept(64)
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())
    images = list_images(str(folder))
    assert kept()[1].any()
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 3
    with pytest.raises(ValueError, match="side=50"):
        kept(50)


def test_a_cache_that_cannot_be_written_is_said(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "file"))
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    images = list_images(str(tmp_path))
    with pytest.raises(CacheError, match="cannot keep a teacher's features.*GENSEG_CACHE"):
        teacher_features(teacher, ImageSource(images, None), content="abc", side=32)
