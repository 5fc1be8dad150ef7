"""A teacher's features in the decoder: what they are, that nothing changes without them, and that a
saved model names its teacher and is used with no other."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from small import SMALL

from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha, snapshot
from genseg.alpha.teacher_level import TeacherLevel
from genseg.joint import AlphaConfig, SlotsConfig
from genseg.nn.encoder import EncoderConfig
from genseg.nn.teacher import Teacher, load_teacher
from genseg.nn.weights import read_facts, read_weights

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
LOOK = Look(MEAN, STD, 256, False)
FINDS = GenerateConfig(candidate=0, score=0.01, min_area=1)


def teacher_file(file: Path, *, seed: int = 0, name: str = "test_vit") -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model(name, pretrained=False).state_dict(), file, {"timm": name})
    return file


def level_of(file: Path) -> TeacherLevel:
    teacher = load_teacher(str(file))
    teacher.precision = torch.float32
    return TeacherLevel(teacher, file=str(file), mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teacher_file(tmp_path_factory.mktemp("teacher") / "vit.safetensors")


@pytest.fixture
def model(encoder: Any, file: Path) -> AlphaModel:
    torch.manual_seed(0)
    return AlphaModel(encoder, AlphaDecoder(encoder, SMALL, level_of(file)), LOOK, FINDS)


def test_it_is_off_by_default(encoder: Any, decoder: AlphaDecoder) -> None:
    torch.manual_seed(0)
    off = AlphaDecoder(encoder, SMALL, None).state_dict()
    assert all(torch.equal(off[key], value) for key, value in decoder.state_dict().items())
    assert "digest" not in off and not AlphaConfig().teacher_level


@pytest.mark.parametrize(("name", "patch"), [("test_vit", 16), ("test_convnext", 32)])
def test_the_level_is_what_the_teacher_sees(tmp_path: Path, name: str, patch: int) -> None:
    level = level_of(teacher_file(tmp_path / "t.safetensors", name=name))
    pixels = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    found = level((pixels - mean) / std)
    facts = level.teacher.facts
    mean, std = (torch.tensor(v)[:, None, None] for v in (facts.mean, facts.std))
    seen = level.teacher((pixels - mean) / std)
    assert seen.shape[2:] == (64 // patch, 96 // patch)
    wanted = (seen - seen.mean(1, True)) / (seen.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    if patch > 16:
        wanted = F.interpolate(wanted, (4, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


def test_patches_of_14_see_the_image_at_14_16ths(file: Path) -> None:
    """As DINOv2 has them: one patch a place of stride 16."""
    level, sides = level_of(file), []

    class Fourteen(Teacher):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.facts, self.stride, self.width = level.teacher.facts, 14, 8

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sides.append(tuple(x.shape[2:]))
            return torch.randn(len(x), 8, x.shape[2] // 14, x.shape[3] // 14)

    level.teacher = Fourteen()
    assert level(torch.zeros(1, 3, 256, 320)).shape == (1, 8, 16, 20)
    assert sides == [(224, 280)]


def test_the_decoder_learns_from_it_and_the_teacher_does_not(model: AlphaModel) -> None:
    x = torch.randn(1, 3, 64, 64)
    embeddings, _ = model.decoder(model.encoder.pyramid(x))
    embeddings.sum().backward()
    first = model.decoder.pixels.blocks[0].conv1[0].weight
    assert first.grad is not None and first.grad[:, -model.decoder.taught.width :].abs().sum() > 0
    assert all(p.grad is None for p in model.decoder.taught.teacher.parameters())
    model.zero_grad(set_to_none=True)
    assert not any("taught" in key or "teacher" in key for key in model.state_dict())
    assert copy.deepcopy(model.decoder).taught is model.decoder.taught
    made = snapshot(model.encoder, model.decoder, LOOK, FINDS)
    assert made.decoder.taught is model.decoder.taught


def test_a_saved_model_names_its_teacher_and_finds_it(
    model: AlphaModel, file: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "alpha.safetensors"
    save_alpha(model, saved, EncoderConfig())
    facts = read_facts(saved)["teacher"]
    assert facts == {
        "file": "vit.safetensors",
        "name": "test_vit",
        "digest": load_teacher(str(file)).facts.digest,
    }
    assert str(file.parent) not in str(read_facts(saved))
    assert len(read_weights(saved)) == len(model.state_dict())  # none of the teacher's
    with pytest.raises(ValueError, match=r"vit.safetensors \(test_vit\).*--teacher"):
        load_alpha(saved)
    image = (torch.rand(64, 64, 3) * 255).byte().numpy()
    wanted = [a.area for a in model.instances(image)]

    def same(**given: str) -> bool:
        again = load_alpha(saved, **given)[0]
        again.decoder.taught.teacher.precision = torch.float32
        return [a.area for a in again.instances(image)] == wanted

    assert same(teacher=str(file))
    (tmp_path / "config.yaml").write_text(f"alpha: {{teacher: {file}}}")
    assert same()
    (tmp_path / "config.yaml").unlink()
    shutil.copy(file, tmp_path / "vit.safetensors")
    assert same()
    teacher_file(tmp_path / "vit.safetensors", seed=1)
    with pytest.raises(ValueError, match="another teacher than"):
        load_alpha(saved)
    other = teacher_file(tmp_path / "other.safetensors", name="test_convnext")
    with pytest.raises(ValueError, match=r"test_vit.*does not fit"):
        load_alpha(saved, teacher=str(other))


def test_a_model_without_one_takes_none(
    encoder: Any, decoder: AlphaDecoder, file: Path, tmp_path: Path
) -> None:
    save_alpha(
        AlphaModel(encoder, decoder, LOOK, FINDS), tmp_path / "a.safetensors", EncoderConfig()
    )
    assert load_alpha(tmp_path / "a.safetensors")[1].teacher is None
    with pytest.raises(ValueError, match="takes none"):
        load_alpha(tmp_path / "a.safetensors", teacher=str(file))


def test_a_recipe_says_which_teacher(file: Path) -> None:
    with pytest.raises(ValueError, match=r"alpha.teacher_level: there is no teacher"):
        AlphaConfig(teacher_level=True)
    # any proposals: the decoder asks it, even if they do not
    assert AlphaConfig(teacher_level=True, teacher=str(file)).proposals == "tree"
    with pytest.raises(ValueError, match=r"slots take no teacher"):
        SlotsConfig(teacher_level=True, teacher=str(file))
