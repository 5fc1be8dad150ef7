"""Config: defaults, file and command line; every mistake is answered with key, source and
remedy."""

import random
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from genseg.config import ConfigError, difference, flatten, load, to_yaml


@dataclass(frozen=True)
class View:
    count: int = 2
    size: int = 64
    scale: tuple[float, float] = (0.2, 1.0)


@dataclass(frozen=True)
class Optimizer:
    lr: float = 0.05
    scaling: Literal["none", "linear"] = "linear"
    warmup: str = "10 epochs"


@dataclass(frozen=True)
class MoCo:
    name: str = "moco"
    queue: int = 65536
    temperature: float = 0.2


@dataclass(frozen=True)
class SwAV:
    name: str = "swav"
    prototypes: int = 3000
    optimizer: Optimizer = Optimizer()

    def __post_init__(self) -> None:
        if self.prototypes < 1:
            raise ValueError(f"prototypes {self.prototypes}: use 1 or more")


@dataclass(frozen=True)
class Knn:
    name: str = "knn"
    k: int = 20


@dataclass(frozen=True)
class Config:
    run: str
    optimizer: Optimizer = Optimizer()
    views: dict[str, View] = field(default_factory=lambda: {"both": View(count=3)})
    mean: tuple[float, float, float] = (0.5, 0.25, 0.125)
    layers: tuple[int, ...] = ()
    method: Any = MoCo(queue=7)
    probe: Any = Knn()
    epochs: float | None = None
    seed: int = 0
    tag: str | None = None
    compile: bool = False


CHOICES = {"method": {"moco": MoCo, "swav": SwAV}, "probe": {"knn": Knn}}


def read(*overrides: str, yaml: str | None = None, folder: Path | None = None) -> Config:
    file = None
    if yaml is not None:
        assert folder is not None
        file = folder / "c.yaml"
        file.write_text(yaml)
    return load(Config, file=file, overrides=overrides, choices=CHOICES)


def failure(*overrides: str, yaml: str | None = None, folder: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*overrides, yaml=yaml, folder=folder)
    return str(caught.value).replace(f"{folder}/", "")


def test_defaults_file_and_command_line_in_this_order(tmp_path: Path) -> None:
    yaml = (
        "run: file\nseed: 1\noptimizer: {lr: 1}\nmethod: {name: swav, prototypes: 300}\nmean: [1, "
        "2, 3]\n"
    )
    config = read("run=line", "method.prototypes=30", "epochs=2e1", yaml=yaml, folder=tmp_path)
    expected = Config(
        run="line",
        seed=1,
        optimizer=Optimizer(lr=1.0),
        method=SwAV(prototypes=30),
        mean=(1.0, 2.0, 3.0),
        epochs=20.0,
    )
    assert config == expected
    assert type(config.optimizer.lr) is float and type(config.mean) is tuple
    assert read("run=x") == Config(run="x")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=1e-3", 1e-3),
        ("optimizer.lr=3", 3.0),
        ("optimizer.lr=${mean}", None),
        ("optimizer.lr=.inf", float("inf")),
        ("epochs=null", None),
        ("epochs=0.5", 0.5),
        ("tag=null", None),
        ("tag='null'", "null"),
        ("tag=no", "no"),
        ("run=007", "007"),
        ("run=1e-3", "1e-3"),
        ("run=a=b", "a=b"),
        ("run=[my] pictures #1: @home", "[my] pictures #1: @home"),
        ("run=''", ""),
        ("run=r/${method.name}-${seed}", "r/moco-0"),
        ("run=\\${seed}", "${seed}"),
        ("run=\\${oc.env:HOME}", "${oc.env:HOME}"),
        ("run=${seed}:x", "0:x"),
        ("compile=on", True),
        ("compile=false", False),
        ("layers=[]", ()),
        ("layers=[1,2]", (1, 2)),
        ("mean=[1,1e-1,0]", (1.0, 0.1, 0.0)),
        ("optimizer.scaling=none", "none"),
        ("views.both.scale=[0.1, 1]", (0.1, 1.0)),
        ("method={queue: 5}", None),
        ("method.queue=1_000", 1000),
    ],
)
def test_one_override_changes_one_key(override: str, value: Any) -> None:
    key = override.split("=")[0]
    if override == "optimizer.lr=${mean}":
        assert failure("run=x", override).startswith(
            "optimizer.lr: got [0.5, 0.25, 0.125] (command line)"
        )
        return
    if override == "method={queue: 5}":
        key, value = "method.queue", 5
    config = read(*({"run": "run=x"} | {key: override}).values())
    base = flatten(Config(run="x"))
    assert flatten(config) == base | {key: value}
    assert [type(v) for v in flatten(config).values() if v is not None] == [
        type(v) for v in (base | {key: value}).values() if v is not None
    ]


def test_a_file_lists_the_entries_of_a_dict_and_the_command_line_changes_them(
    tmp_path: Path,
) -> None:
    yaml = "run: x\nviews:\n  large: {size: 96}\n  both: {size: 32}\n"
    config = read("views.large.count=5", "views.small={size: 16}", yaml=yaml, folder=tmp_path)
    assert config.views == {"large": View(5, 96), "both": View(3, 32), "small": View(2, 16)}
    assert list(config.views) == ["large", "both", "small"]
    assert read("run=x", "views.small={count: 1}").views == {"both": View(3), "small": View(1)}
    assert read(yaml="run: x\nviews: {a: {}}", folder=tmp_path).views == {"a": View()}
    assert read(yaml="run: x\nviews: {}", folder=tmp_path).views == {}
    assert "did you mean views.both.count?" in failure("run=x", "views.bth.count=3")


def test_the_name_of_a_section_selects_its_schema(tmp_path: Path) -> None:
    assert read("run=x").method == MoCo(queue=7)
    assert read("run=x", "method.name=moco", "method.temperature=1").method == MoCo(
        queue=7, temperature=1.0
    )
    assert read("run=x", "method.name=swav").method == SwAV()
    assert read("run=x", "method.name=swav", "method.optimizer.lr=1").method.optimizer == Optimizer(
        lr=1.0
    )
    yaml = "run: x\nmethod:\n  name: swav\n  queue: 5\n"
    expected = (
        "unknown key method.queue (c.yaml:4); method.name is swav, but this key belongs to moco"
    )
    assert failure(yaml=yaml, folder=tmp_path) == expected
    assert read("method.name=moco", yaml=yaml, folder=tmp_path).method == MoCo(queue=5)
    wrong = 'method.name: got "swaw" (command line), wanted moco | swav; did you mean swav?'
    assert failure("run=x", "method.name=swaw") == wrong


def test_a_chosen_section_may_lie_deeper_and_have_no_default() -> None:
    @dataclass(frozen=True)
    class Part:
        method: Any
        depth: int = 1

    @dataclass(frozen=True)
    class Whole:
        part: Part

    choices = {"part.method": CHOICES["method"]}
    config = load(Whole, file=None, overrides=["part.method.name=swav"], choices=choices)
    assert config == Whole(Part(SwAV()))
    with pytest.raises(ConfigError, match="missing: part.method.name; choose one of moco, swav"):
        load(Whole, file=None, overrides=[], choices=choices)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lr=1"], "unknown key lr (command line); did you mean optimizer.lr?"),
        (["optimzer.lr=1"], "unknown key optimzer.lr (command line); did you mean optimizer.lr?"),
        (
            ["optimizer.lrr=1"],
            "unknown key optimizer.lrr (command line); did you mean optimizer.lr?",
        ),
        (["optimizer.zzzz=1"], "the keys of optimizer are lr, scaling, warmup"),
        (
            ["zzzz=1"],
            "the keys here are run, optimizer, views, mean, layers, method, probe, epochs, seed",
        ),
        (["mean.0=1"], "unknown key mean.0 (command line); did you mean mean?"),
        (
            ["views.more.count=4"],
            "did you mean views.both.count? views.more={count: VALUE, ...} adds more",
        ),
        (["seed=1e3"], "seed: got 1000.0 (command line), wanted int; write 1000"),
        (["optimizer.lr=fast"], 'optimizer.lr: got "fast" (command line), wanted float'),
        (["optimizer.lr=true"], "optimizer.lr: got true (command line), wanted float"),
        (["optimizer.lr="], "optimizer.lr: got null (command line), wanted float"),
        (
            ["optimizer.lr=[1"],
            "optimizer.lr=[1 (command line): the value is not valid YAML; try it in quotes",
        ),
        (["seed=1.5"], "seed: got 1.5 (command line), wanted int"),
        (["epochs=ten"], 'epochs: got "ten" (command line), wanted float | null'),
        (["compile=1"], "compile: got 1 (command line), wanted bool"),
        (["mean=[1,2]"], "mean: got [1, 2] (command line), wanted [float, float, float]"),
        (["mean=[1,2,a]"], 'mean: got [1, 2, "a"] (command line), wanted [float, float, float]'),
        (["layers=[1.5]"], "layers: got [1.5] (command line), wanted [int, ...]"),
        (["layers=3"], "layers: got 3 (command line), wanted [int, ...]"),
        (["optimizer.scaling=sqrt"], 'got "sqrt" (command line), wanted none | linear'),
        (
            ["optimizer=3"],
            'optimizer: got "3" (command line), but it is a section; its keys are lr, scaling',
        ),
        (
            ["method=swav"],
            'method: got "swav" (command line), but it is a section; its keys are name, queue',
        ),
        (["views={}"], "views={} (command line) changes nothing; name a key"),
        (["seed"], "'seed' (command line) is not of the form key=value"),
        (["=3"], "'=3' (command line) is not of the form key=value"),
        (["seed=1", "seed=2"], "seed is given twice (command line); give it once"),
        (["method={queue: 1}", "method.queue=2"], "method.queue is given twice (command line)"),
        (["tag=${nope}"], "tag (command line): Interpolation key 'nope' not found"),
        (["tag=${a"], "tag (command line): "),
        (
            ["tag=${oc.env:HOME}"],
            'tag: got "${oc.env:HOME}" (command line): a recipe may refer to its own keys',
        ),
        (["tag=a ${seed} ${ oc.env:HOME,x}"], "calls no function"),
        (["tag=\\\\${oc.env:HOME}"], "calls no function"),
        (["tag=${oc.decode:'${seed}'}"], "calls no function"),
        (["tag=${${run}:HOME}"], "calls no function"),
        (["tag=???"], "tag (command line): Missing mandatory value: tag"),
        (["method.name=swav", "method.prototypes=0"], "method: prototypes 0: use 1 or more"),
    ],
)
def test_a_mistake_on_the_command_line(overrides: list[str], expected: str) -> None:
    assert expected in failure("run=x", *overrides)


def test_everything_missing_is_named_at_once() -> None:
    @dataclass(frozen=True)
    class Data:
        path: str
        size: int
        cache: int | None = None

    @dataclass(frozen=True)
    class Whole:
        run: str
        data: Data

    with pytest.raises(
        ConfigError, match=re.escape("missing: run (str), data.size (int); give it as key=value")
    ):
        load(Whole, file=None, overrides=["data.path=x"])


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (
            "run: x\n\noptimizer:\n  # lower\n  lr: fast\n",
            'optimizer.lr: got "fast" (c.yaml:5), wanted float',
        ),
        (
            "run: x\noptimizer:\n  lrr: 1\n",
            "unknown key optimizer.lrr (c.yaml:3); did you mean optimizer.lr?",
        ),
        ("run: x\nviews: {a: {\n  cuont: 1}}\n", "unknown key views.a.cuont (c.yaml:3)"),
        ("run: 7\n", "run: got 7 (c.yaml:1), wanted str; put it in quotes"),
        ("run: off\n", "run: got false (c.yaml:1), wanted str; put it in quotes"),
        ("run: x\noptimizer:\n", "optimizer: got null (c.yaml:2), but it is a section"),
        ("run: x\nviews: 3\n", "views: got 3 (c.yaml:2), wanted a section"),
        ("run: x\nrun: y\n", "config file c.yaml:2 is not valid YAML: found duplicate key run"),
        ("optimizer.lr: 1\noptimizer: {lr: 2}\n", "optimizer.lr is given twice (c.yaml:2)"),
        ("run: [\n", "config file c.yaml:2 is not valid YAML"),
        (
            "".join(f"{' ' * i}k{i}:\n" for i in range(600)),
            "config file c.yaml: its sections are nested too deep",
        ),
        (
            "run: x\ntag: ${oc.env:HOME}\n",
            'tag: got "${oc.env:HOME}" (c.yaml:2): a recipe may refer to its own keys',
        ),
        ("\trun: x\n", "config file c.yaml:1 is not valid YAML"),
        ("run: x\nmean: !!python/name:os.system\n", "config file c.yaml:2 is not valid YAML"),
        ("run: &a [*a]\n", "config file c.yaml:1 is not valid YAML"),
        ("- run\n", "config file c.yaml has to hold `key: value` lines, but it is a sequence"),
        ("run\n", "config file c.yaml has to hold `key: value` lines, but it is a scalar"),
        (
            "run: x\nviews: {96: {}}\n",
            "key views.96 (c.yaml:2): YAML does not read it as text; put it in quotes",
        ),
        ("run: x\non: 1\n", "key on (c.yaml:2): YAML does not read it as text; put it in quotes"),
        ("", "missing: run (str)"),
        ("# nothing\n", "missing: run (str)"),
    ],
)
def test_a_mistake_in_a_file(tmp_path: Path, yaml: str, expected: str) -> None:
    assert expected in failure(yaml=yaml, folder=tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"run: \xff\n")
    for name, reason in (
        ("none.yaml", "No such file"),
        (".", "directory"),
        ("latin.yaml", "decode"),
    ):
        with pytest.raises(ConfigError, match=reason):
            load(Config, file=tmp_path / name, overrides=[])


def test_yaml_round_trip_is_complete_and_exact(tmp_path: Path) -> None:
    config = Config(
        run="x",
        views={"a": View(scale=(1e-300, 0.1)), "b": View()},  # without the default's entry
        method=SwAV(optimizer=Optimizer(lr=1 / 3)),
        layers=(3, 4),
        epochs=1e22,
        compile=True,
    )
    text = to_yaml(config)
    assert read(yaml=text, folder=tmp_path) == config
    assert to_yaml(read(yaml=text, folder=tmp_path)) == text
    keys = [key for key in flatten(config) if "." not in key]
    assert [line.split(":")[0] for line in text.splitlines() if line[0].isalpha()] == [
        "run",
        "optimizer",
        "views",
        "mean",
        "layers",
        "method",
        "probe",
        "epochs",
        "seed",
        "tag",
        "compile",
    ]
    assert keys == ["run", "mean", "layers", "epochs", "seed", "tag", "compile"]
    empty = replace(config, views={})
    assert read(yaml=to_yaml(empty), folder=tmp_path) == empty


def test_any_text_survives_the_round_trip(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = [
        "on",
        "null",
        "~",
        "007",
        "1e-3",
        "1_0",
        "0x1",
        "1:30",
        "2020-01-01",
        "=",
        "<<",
        "a: b",
        "#",
        "é",
        "",
    ]
    letters = ["\\", "$", "{", "}", "${", "'", '"', " ", "\n", "\t", ":", "#", "a.b", "seed"]
    words += ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(300)]
    for word in words[:40]:
        config = Config(run=word, tag=word * 20)
        assert read(yaml=to_yaml(config), folder=tmp_path) == config

    @dataclass(frozen=True)
    class Texts:
        words: tuple[str, ...]

    (tmp_path / "words.yaml").write_text(to_yaml(Texts(tuple(words))))
    assert load(Texts, file=tmp_path / "words.yaml", overrides=[]).words == tuple(words)


def test_difference_names_each_changed_key_once() -> None:
    a = Config(run="x")
    assert difference(a, a) == []
    b = replace(
        a,
        optimizer=Optimizer(lr=0.1),
        mean=(1.0, 0.0, 0.0),
        epochs=3.0,
        views={"both": View(3), "c": View()},
    )
    assert difference(a, b) == [
        "optimizer.lr: 0.05 -> 0.1",
        "mean: [0.5, 0.25, 0.125] -> [1.0, 0.0, 0.0]",
        "epochs: null -> 3.0",
        "views.c.count: (no such key) -> 2",
        "views.c.size: (no such key) -> 64",
        "views.c.scale: (no such key) -> [0.2, 1.0]",
    ]
    assert "method.queue: 7 -> (no such key)" in difference(a, replace(a, method=SwAV()))
    nan = replace(a, epochs=float("nan"))
    assert difference(nan, replace(nan)) == []
