"""The studies of configs/study: each arm has a recipe that pretraining takes."""

import pytest
from noise import write_classes

from genseg.recipes import recipes
from genseg.workflows.study.cells import arm_config
from genseg.workflows.study.config import StudyConfig, load_study

STUDIES = recipes("study")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("given")
    (place / "images").mkdir()
    write_classes(place / "images", 4, ".png")
    (place / "words.txt").write_text("a 1 0\nb 0 1\n")
    return [f"data={place}/images", f"words={place}/words.txt", "unseen=[]"]


def test_there_are_ten() -> None:
    assert len(STUDIES) == 10


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_is_a_recipe_of_pretraining(name: str, given: list[str]) -> None:
    whole, short = (load_study(STUDIES[name], given, short=s) for s in (False, True))
    assert whole.statements or whole.correlate
    for arm in whole.arms:
        config = arm_config(whole, arm, whole.data)
        assert config.data.path == whole.data and config.probe.every == "0 steps"
        assert config.images == pytest.approx(whole.images * whole.arms[arm].images, abs=1)
        assert config.threads == 1 and config.data.cache == 32
    assert cost(short) < cost(whole)


def cost(study: StudyConfig) -> float:
    """Images seen by all cells."""
    trained = [a.images for a in study.arms.values() if a.kind == "pretrain"]
    return study.seeds * study.images * sum(trained)
