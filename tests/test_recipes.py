"""Recipes by their names, and what the command line says of keys."""

from pathlib import Path

import pytest

from genseg.cli import main


@pytest.mark.parametrize("name", ["simclr", "simclr.yaml", "configs/pretrain/simclr.yaml"])
def test_a_recipe_is_found_by_its_name_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And every key is printed without a run or data: nothing is trained."""
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--config", name, "--print-config"]) == 0
    assert "name: simclr" in capsys.readouterr().out
    assert main(["finetune", "--config", "unet", "--print-config"]) == 0
    assert "name: unet" in capsys.readouterr().out
    assert main(["pretrain", "--config", "unet", "--print-config"]) == 2
    assert "no recipe of that name: alpha, byol" in capsys.readouterr().err
    assert main(["pretrain", "--config", str(tmp_path), "--print-config"]) == 2


def test_keys_have_no_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["pretrain", "--config", "simclr", "--steps", "3"])
    assert "does not know --steps; keys have no dashes, as steps=100" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("genseg 0.")
