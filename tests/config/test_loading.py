"""From file and overrides to a Config, and back; the exact messages are in tests/launch."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.config import Config, config_hash, dump_config, load_config
from marigold_rec.config.components import FEATURES
from marigold_rec.config.features import VocabFeature
from marigold_rec.errors import ConfigError
from tests.config.trees import SMALL, load, problems

ROOT = Path(__file__).resolve().parents[2]


def test_values_arrive_typed(tmp_path: Path):
    config = load(tmp_path, "optimizer.dense.lr=1e-4", "data.path=010", "run.dir=no")
    assert config.optimizer.dense.lr == 1e-4
    assert config.data.path == "010"
    assert config.run.dir == "no"
    assert config.data.train.dates == (datetime.date(2024, 1, 1), datetime.date(2024, 1, 5))
    country = config.features[2]
    assert isinstance(country, VocabFeature)
    assert country.values == ("no", "br")  # Norway stays a country


def test_defaults_then_file_then_overrides(tmp_path: Path):
    config = load(tmp_path, "run.seed=5", "model.trunk.name=ple", "model.trunk.levels=3")
    assert (config.run.name, config.run.seed, config.run.epochs) == ("small", 5, 1)
    trunk = config.model.trunk.model_dump()
    assert (trunk["name"], trunk["levels"], trunk["shared_experts"]) == ("ple", 3, 2)


def test_a_config_is_frozen(tmp_path: Path):
    config = load(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 4


def test_all_problems_at_once_and_each_once(tmp_path: Path):
    found = problems(
        tmp_path,
        "features.country.values=[true, null]",
        "features.usr.dim=4",
        "data.train.dates=[5]",
        "model={trunk: {experts: 4, name: mmoe, expert_layers: [0, x]}}",
        "balancer=marigold",
    )
    assert found == [
        "override 'features.usr.dim=4': no entry 'usr'; did you mean 'user'?",
        "data.train.dates.0: found 5; it must be a day, YYYY-MM-DD",
        "data.train.dates: found [5]; it must have 2 entries",
        "features.country.values.0: found true; it must be text or an integer",
        "features.country.values.1: found null; it must be text or an integer",
        "model.trunk.expert_layers.0: found 0; it must be at least 1",
        "model.trunk.expert_layers.1: found 'x'; it must be an integer",
        "balancer: found 'marigold'; it must be a mapping of keys to values",
    ]


def test_problems_across_sections_are_told_at_once_too(tmp_path: Path):
    found = problems(tmp_path, "tasks.1.x=3", "sharding.tables.usr=row_wise", "tasks.0.label=price")
    assert [line.split(":")[0] for line in found] == [
        "override 'tasks.1.x=3'",
        "sharding.tables.usr",
        "features.price",
    ]


def test_entries_are_named_or_numbered(tmp_path: Path):
    text = "features: [{kind: hash}, {name: a}, 3, {name: b, kind: dense, clip: [1, b]}]\n"
    assert problems(tmp_path, text=text + "tasks: [{}, {kind: x}]") == [
        "features.0.name: missing; give it a value",
        f"features.a.kind: missing; give it one of {', '.join(FEATURES)}",
        "features.2: found 3; it must be a mapping of keys to values",
        "features.b.clip.1: found 'b'; it must be a number",
        "tasks.0.kind: missing; give it one of binary, duration",
        "tasks.1.kind: found 'x'; known here: binary, duration",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed=.nan", "run.seed: found nan; it must be an integer"),
        ("optimizer.dense.lr=-.inf", "found -inf; it must be a finite number"),
        ("run.seed=true", "run.seed: found true; it must be an integer"),
        ("data.batch_size=1e3", "data.batch_size: found 1000.0; it must be an integer"),
        ("data.verify_checksums=1", "found 1; it must be true or false"),
        ("data.weight=3", "data.weight: found 3; it must be text: put it into quotes"),
        ("run={1: 2}", "run.1: unknown key; known here: name, dir, seed, epochs, steps, device"),
        ("data.path=!!binary aGk=", "holds a value of a !!tag"),
        ("data.path=!!set {a}", "holds a value of a !!tag"),
        ('run.dir="\\ud800"', "nested too deeply or holds text that is not Unicode"),
        ("run=" + "[" * 300 + "]" * 300, "nested too deeply or holds"),
        ("run=[" + "x, " * 99 + "]", "run: found ['x', 'x', "),
    ],
)
def test_odd_values_are_refused_in_plain_words(tmp_path: Path, override: str, message: str):
    (found,) = problems(tmp_path, override)
    assert message in found
    assert len(found) < 300


def test_an_anchor_that_holds_itself(tmp_path: Path):
    (found,) = problems(tmp_path, text=SMALL + "model: &m {trunk: *m}\n")
    assert found.endswith("config.yaml: an &anchor must not hold its own *alias")


def test_a_file_that_is_no_text(tmp_path: Path):
    (tmp_path / "latin").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin: the config file is not UTF-8 text"):
        load_config(tmp_path / "latin")
    with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
        load_config(tmp_path)


@pytest.mark.parametrize("name", ["ctr_cvr.yaml", "globo.yaml"])
def test_the_configs_that_come_along_are_good(tmp_path: Path, name: str):
    config = load_config(ROOT / "configs" / name)
    assert load(tmp_path, text=dump_config(config)) == config


_TEXTS = st.text(max_size=8).filter(bool) | st.sampled_from(
    ["no", "1e5", "1e-4", "010", "2024-01-05", "1:30", "null", "~", "=", "<<", "0x1F", ".5", "12"]
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Trees of good configs with texts and numbers that YAML likes to misread."""
    clip = sorted(draw(st.lists(_FLOATS, min_size=2, max_size=2, unique=True)))
    features = [
        {"name": "user", "kind": "hash", "rows": draw(st.integers(1, 2**40)), "dim": 12},
        {
            "name": "country",
            "kind": "vocab",
            "values": draw(st.lists(_TEXTS, min_size=1, max_size=4, unique=True)),
        },
        {"name": "age", "kind": "bucketize",
         "boundaries": sorted(draw(st.sets(_FLOATS, min_size=1, max_size=4)))},
        {"name": "price", "kind": "dense", "missing": draw(_FLOATS), "clip": clip},
    ]  # fmt: skip
    return {
        "run": {"dir": draw(_TEXTS), "seed": draw(st.integers(0, 2**31 - 1))},
        "data": {
            "path": draw(st.none() | _TEXTS),
            "train": {"dates": [str(draw(st.dates())), "9999-12-31"]},
            "weight": draw(st.none() | _TEXTS),
        },
        "features": features,
        "tasks": [{"name": "ctr", "kind": "binary", "label": "click"}],
        "balancer": {"name": "marigold", "preference": {"ctr": draw(st.floats(1e-300, 1e300))}},
    }


@given(configs())
def test_an_effective_config_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
):
    config = Config.model_validate(tree)
    text = dump_config(config)
    again = load(tmp_path_factory.mktemp("config"), text=text)
    assert again == config
    assert dump_config(again) == text
    assert config_hash(again) == config_hash(config)


@given(st.text(alphabet="runsedfat.0=[]{}:,'! \n-1e", max_size=25))
def test_any_override_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, override: str):
    """Never with an error of another library's."""
    said = "refused"
    try:
        said = load(tmp_path_factory.getbasetemp(), override).run.name
    except ConfigError as error:
        said = str(error)
    assert said


def test_the_hash_is_of_the_settings_and_not_of_their_spelling(tmp_path: Path):
    first = config_hash(load(tmp_path))
    respelled = SMALL.replace("{name: small, seed: 3}", "\n  seed: 0x3\n  name: 'small'")
    assert config_hash(load(tmp_path, text=respelled)) == first
    assert config_hash(load(tmp_path, "run.epochs=1", "model={trunk: {name: mmoe}}")) == first
    assert len(first) == 16
    assert int(first, 16) >= 0


@pytest.mark.parametrize(
    "override",
    [
        "run.seed=4",
        "run.dir=elsewhere",
        "data.eval=null",
        "features.user.rows=101",
        "features.country.values=[br, no]",
        "tasks.ctr.label=tap",
        "optimizer.dense.lr=1.0000001e-3",
        "logging.tensorboard=false",
    ],
)
def test_the_hash_tells_every_setting(tmp_path: Path, override: str):
    assert config_hash(load(tmp_path, override)) != config_hash(load(tmp_path))
