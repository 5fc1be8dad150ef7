"""Files of weights from other people: what they say is checked, nothing they name is fetched, all
errors are clear."""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from genseg import __version__
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha
from genseg.cli import main
from genseg.core.names import ALPHA_NAME, ENCODER_NAME, MODEL_NAME
from genseg.nn.encoder import Encoder, EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, facts_of, save_encoder
from genseg.nn.weights import read_facts, read_weights
from genseg.transfer.detector import DetectorConfig
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import (
    Predictor,
    Preparation,
    build_model,
    load_predictor,
    save_predictor,
)
from genseg.transfer.segmenter import SegmenterConfig
from genseg.workflows.finetune.start import start_of

Change = Callable[[dict[str, Any]], Any]
SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)
ANCHORS = (8.0, 16.0, 32.0, 64.0, 128.0)
GREY = (0.5, 0.5, 0.5)
NEWER = "99.0.0"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file of each kind, as genseg writes them."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    config = EncoderConfig(weights="/home/somebody/secret")
    encoder = build_encoder(EncoderConfig())[0]
    save_encoder(
        encoder,
        folder / ENCODER_NAME,
        EncoderFacts(config, "moco", GREY, GREY, 64, genseg=__version__),
    )
    model = AlphaModel(
        encoder, AlphaDecoder(encoder, SMALL), Look(GREY, GREY, 0, True), GenerateConfig()
    )
    save_alpha(model, folder / ALPHA_NAME, config)
    for made in (
        SegmenterConfig(),
        DetectorConfig(anchors=ANCHORS, width=16, hidden=16),
        PlacesConfig(decoder=SMALL),
    ):
        fresh = build_model(made, Encoder(EncoderConfig()), EncoderConfig(), classes=1)
        predictor = Predictor(fresh, ((3, "cell"),), Preparation(GREY, GREY, 64, False))
        (folder / made.name).mkdir()
        save_predictor(
            predictor, config, folder / made.name / MODEL_NAME, step=7, precision="no", detections=5
        )
    return folder


LOAD: dict[str, Callable[[Path], Any]] = {
    ENCODER_NAME: facts_of,
    ALPHA_NAME: load_alpha,
    f"unet/{MODEL_NAME}": load_predictor,
    f"mask_rcnn/{MODEL_NAME}": load_predictor,
    f"places/{MODEL_NAME}": load_predictor,
}


def rewritten(file: Path, out: Path, change: Change, **tensors: torch.Tensor) -> Path:
    """A copy of a file whose tensors, and facts, are changed: in place, or to what `change`
    returns."""
    facts = read_facts(file)
    changed = change(facts)
    text = (
        changed
        if isinstance(changed, str)
        else json.dumps(changed if isinstance(changed, list) else facts)
    )
    save_file(load_file(file) | tensors, out, {"genseg": text})
    return out


@pytest.mark.parametrize("name", LOAD)
def test_a_file_of_each_kind_comes_back_and_names_no_path(files: Path, name: str) -> None:
    found = LOAD[name](files / name)
    assert b"/home/" not in (files / name).read_bytes()
    facts = found if isinstance(found, EncoderFacts) else found[1]
    assert facts.genseg == __version__ and facts.encoder == EncoderConfig()
    assert json.loads(json.dumps(asdict(facts))) == read_facts(files / name)
    if not isinstance(found, EncoderFacts):
        module = found[0] if name == ALPHA_NAME else found[0].model
        again, kept = module.state_dict(), load_file(files / name)
        assert again.keys() == kept.keys() and all(
            torch.equal(again[k], v) for k, v in kept.items()
        )


CHANGES: dict[str, tuple[Change, str]] = {
    "nested without end": (lambda f: "[" * 100_000 + "]" * 100_000, "its facts cannot be read"),
    "no JSON": (lambda f: "{", "its facts cannot be read"),
    "a number of 10,000 digits": (
        lambda f: '{"a": 1' + "0" * 10_000 + "}",
        "its facts cannot be read",
    ),
    "a list": (lambda f: [1, 2], "its facts are a list, wanted a section"),
    "a number": (lambda f: "3", "its facts are a int, wanted a section"),
    "no encoder": (lambda f: f.pop("encoder"), "encoder is missing"),
    "encoder is text": (
        lambda f: f.update(encoder="resnet18"),
        'encoder: got "resnet18", wanted a section',
    ),
    "encoder is null": (lambda f: f.update(encoder=None), "encoder: got null, wanted a section"),
    "encoder is deep": (
        lambda f: f.update(encoder=json.loads("[" * 900 + "]" * 900)),
        "encoder: got .*wanted a sec",
    ),
    "name is a number": (lambda f: f["encoder"].update(name=5), "encoder.name: got 5, wanted str"),
    "an unknown name": (
        lambda f: f["encoder"].update(name="resnt18"),
        "no such encoder; did you mean resnet18",
    ),
    "an unknown key": (
        lambda f: f["encoder"].update(new=1),
        r"unknown key encoder\.new; a newer genseg may have written the file \(this is "
        rf"{__version__}\)",
    ),
    "an unknown section": (lambda f: f.update(channels={}), "unknown key channels"),
    "a key of a newer genseg": (
        lambda f: (f.update(genseg=NEWER), f["encoder"].update(new=1)),
        rf"unknown key encoder\.new; .* newer genseg, {NEWER} \(this is {__version__}\): update "
        r"genseg",
    ),
    "a value of a newer genseg": (
        lambda f: (f.update(genseg=NEWER), f["encoder"].update(stem="deep")),
        rf'encoder\.stem: got "deep", wanted imagenet \| small \| detail; .* newer genseg, {NEWER}',
    ),
    "the hub": (
        lambda f: f["encoder"].update(name="tu-hf-hub:evil/model"),
        "none is fetched from elsewhere",
    ),
    "the hub otherwise": (
        lambda f: f["encoder"].update(name="tu-hf_hub:evil/model"),
        "none is fetched",
    ),
    "a folder": (lambda f: f["encoder"].update(name="tu-local-dir:/etc"), "none is fetched"),
}


@pytest.mark.parametrize("name", [ENCODER_NAME, ALPHA_NAME, f"unet/{MODEL_NAME}"])
@pytest.mark.parametrize("change", CHANGES)
def test_facts_that_do_not_fit_are_told(
    files: Path, name: str, change: str, tmp_path: Path
) -> None:
    make, message = CHANGES[change]
    file = rewritten(files / name, tmp_path / "changed.safetensors", make)
    with pytest.raises(ValueError, match=message) as told:
        found = LOAD[name](file)
        # reached for encoder.safetensors alone: what it names is built by who asks for it
        Encoder(found.encoder)
    assert str(file) in str(told.value) or (name, change) == (ENCODER_NAME, "an unknown name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["look"].update(side=-5), "look: side=-5: use 0 or more"),
        (lambda f: f["look"].update(std=[0.5, 0, 0.5]), "look: std=0: it has to be above 0"),
        (
            lambda f: f["look"].update(std=[0.5, float("nan"), 0.5]),
            "look: std=nan: it has to be above 0",
        ),
        (
            lambda f: f["look"].update(mean=[0.5, float("inf"), 0.5]),
            "look: mean=inf: it has to be finite",
        ),
        (
            lambda f: f["look"].update(mean=[0, 0]),
            "look: mean has 2 numbers and std 3",
        ),
        (lambda f: f["look"].pop("stretch"), "look.stretch is missing"),
        (
            lambda f: f["generate"].update(score=2),
            "generate.score: got 2|generate: score=2: use 0 to 1",
        ),
        (lambda f: f["calibration"].update(slope=0), "calibration: slope=0: it has to be above 0"),
        (
            lambda f: f["decoder"].update(embedding=10**9),
            "model as its facts describe|are not those of the model",
        ),
        (
            lambda f: f["decoder"].update(embedding=10**30),
            "there is no model as its facts describe it",
        ),
        (
            lambda f: f["decoder"].update(channels=[0, 0, 0, 0]),
            "decoder: channels=0: use 1 or more",
        ),
        (
            lambda f: f["encoder"].update(name="resnet34"),
            "of its tensors are not those of the model",
        ),
        (lambda f: f.update(slots=3), "slots: got 3, wanted a section"),
    ],
)
def test_facts_of_an_alpha_decoder(
    files: Path, change: Change, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        load_alpha(rewritten(files / ALPHA_NAME, tmp_path / ALPHA_NAME, change))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "unet",
            lambda f: f["model"].update(name="evil"),
            r'model.name: got "evil", wanted mask_rcnn \| ',
        ),
        ("unet", lambda f: f.update(model=[]), "model.name: got null, wanted"),
        ("unet", lambda f: f.update(categories=[]), "there has to be one"),
        ("unet", lambda f: f.update(categories=[["a", 1]]), "categories: got"),
        ("unet", lambda f: f["preparation"].update(std=[0, 0, 0]), "preparation: std=0"),
        (
            "mask_rcnn",
            lambda f: f["model"].update(hidden=10**12),
            "as its facts describe|not those of the model",
        ),
        (
            "places",
            lambda f: f["model"]["decoder"].update(tower=8 * 10**9),
            "facts describe|not those of the model",
        ),
        (
            "places",
            lambda f: f["model"]["generate"].update(new=1),
            "unknown key model.generate.new",
        ),
    ],
)
def test_facts_of_a_fine_tuned_model(
    files: Path, kind: str, change: Change, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        load_predictor(rewritten(files / kind / MODEL_NAME, tmp_path / MODEL_NAME, change))


@pytest.mark.parametrize("name", [ALPHA_NAME, f"unet/{MODEL_NAME}"])
def test_no_weights_are_fetched(
    files: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file of weights made genseg open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    file = rewritten(
        files / name, tmp_path / "a.safetensors", lambda f: f["encoder"].update(weights="imagenet")
    )
    LOAD[name](file)


@pytest.mark.parametrize("name", LOAD)
def test_weights_that_are_no_numbers_are_told(files: Path, name: str, tmp_path: Path) -> None:
    key, weights = next((k, v) for k, v in load_file(files / name).items() if v.ndim > 1)
    spoilt = torch.full_like(weights, float("nan"))
    file = rewritten(files / name, tmp_path / "a.safetensors", lambda f: None, **{key: spoilt})
    with pytest.raises(ValueError, match="1 of [0-9]+ tensors hold nan or infinity"):
        read_weights(file) if name == ENCODER_NAME else LOAD[name](file)


def test_a_file_without_the_tensors_of_its_model(files: Path, tmp_path: Path) -> None:
    save_file(
        {"x": torch.zeros(1)},
        tmp_path / ALPHA_NAME,
        {"genseg": json.dumps(read_facts(files / ALPHA_NAME))},
    )
    with pytest.raises(
        ValueError, match="tensors are not those of the model .* is missing and not"
    ):
        load_alpha(tmp_path / ALPHA_NAME)


@pytest.mark.parametrize("name", ["mit_b0", "tu-convnext_atto", "tu-swin_tiny_patch4_window7_224"])
def test_models_of_other_encoders_are_compared_before_they_take_memory(
    name: str, tmp_path: Path
) -> None:
    """Some constructors read numbers that they have laid out, which must not be without memory."""
    encoder = Encoder(EncoderConfig(name))
    model = AlphaModel(
        encoder, AlphaDecoder(encoder, SMALL), Look(GREY, GREY, 0, True), GenerateConfig()
    )
    save_alpha(model, tmp_path / ALPHA_NAME, EncoderConfig(name))
    again = load_alpha(tmp_path / ALPHA_NAME)[0].state_dict()
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())


def test_an_encoder_for_fine_tuning_is_checked_as_well(files: Path, tmp_path: Path) -> None:
    """It was taken for a file of another library, and its encoder for a resnet18."""
    file = rewritten(
        files / ENCODER_NAME, tmp_path / ENCODER_NAME, lambda f: f["encoder"].update(new=1)
    )
    with pytest.raises(ValueError, match=r"unknown key encoder\.new"):
        start_of(str(file))
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "theirs.safetensors")
    assert start_of(str(tmp_path / "theirs.safetensors")).facts is None
    with pytest.raises(ValueError, match="holds more than an encoder"):
        start_of(str(files / ALPHA_NAME))


def test_files_of_before_hold_the_config_and_are_read(files: Path, tmp_path: Path) -> None:
    def before(facts: dict[str, Any]) -> None:
        del facts["precision"], facts["detections"]
        facts.update(
            start="random",
            config={"run": "/home/me", "precision": "bf16", "validate.detections": 9},
        )

    facts = load_predictor(rewritten(files / f"unet/{MODEL_NAME}", tmp_path / MODEL_NAME, before))[
        1
    ]
    assert (facts.precision, facts.detections, facts.step) == ("bf16", 9, 7)


def test_commands_end_with_2_and_a_word(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"generate": ALPHA_NAME, "predict": f"unet/{MODEL_NAME}", "export": ENCODER_NAME}
    (tmp_path / "FOLDER").mkdir()
    for command, name in named.items():
        file = rewritten(
            files / name, tmp_path / f"{command}.safetensors", lambda f: f["encoder"].update(new=1)
        )
        folder = [] if command == "export" else [str(tmp_path / "FOLDER")]
        assert main([command, str(file), *folder, "--out", str(tmp_path / "out")]) == 2
        assert f"{file}: unknown key encoder.new" in capsys.readouterr().err
