"""Damaged, incomplete, foreign and hostile artefacts: a clear error, and nothing of theirs runs."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.errors import CheckpointError, ConfigError
from marigold_rec.serving import Predictor, read_artefact
from marigold_rec.serving.artefact import ARTEFACT_NAME
from tests.serving.artefacts import Model, rewrite, small_config

FILES = ("dense.pt2", "tables/user.bin", "tables/item.bin", "tables/price_band.bin")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Model(small_config()).export(tmp_path_factory.mktemp("good") / "artefact")
    Predictor(folder)
    return folder


@pytest.fixture
def artefact(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "artefact"))


def refused(folder: Path, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        Predictor(folder)


def test_it_holds_what_is_listed_and_no_more(good: Path) -> None:
    found = {str(p.relative_to(good)) for p in good.rglob("*") if p.is_file()}
    assert found == {*FILES, ARTEFACT_NAME}
    assert [p.name for p in good.parent.iterdir()] == ["artefact"], "nothing is left beside it"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_byte(artefact: Path, name: str, place: float) -> None:
    path = artefact / name
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    refused(artefact, rf"{name}: size or sha256 differs from artefact.json's")


def test_a_flipped_byte_of_the_description(artefact: Path) -> None:
    """Wherever it lies: a boundary of a feature that is a little off would be served in silence."""
    text = (artefact / ARTEFACT_NAME).read_bytes()
    for at in range(0, 8 * len(text), 37):
        changed = bytearray(text)
        changed[at // 8] ^= 1 << at % 8
        (artefact / ARTEFACT_NAME).write_bytes(changed)
        with pytest.raises(CheckpointError, match=ARTEFACT_NAME):
            read_artefact(artefact)


def test_a_changed_setting(artefact: Path) -> None:
    path = artefact / ARTEFACT_NAME
    text = path.read_text()
    assert text.count("3.0") == 1
    path.write_text(text.replace("3.0", "2.0"))
    refused(artefact, "artefact.json: its sha256 differs")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(artefact: Path, name: str) -> None:
    (artefact / name).unlink()
    refused(artefact, rf"{name}: missing, but listed in artefact.json")


def test_no_artefact_at_all(tmp_path: Path) -> None:
    refused(tmp_path, r"artefact.json: can't be read .*launch/export.py")
    refused(tmp_path / "nowhere", r"artefact.json: can't be read")


def test_an_unlisted_file(artefact: Path) -> None:
    (artefact / "tables" / "more.bin").write_bytes(b"1")
    refused(artefact, r"does not list: \['tables/more.bin'\]")


def test_a_newer_format_is_named_before_its_fields(artefact: Path) -> None:
    rewrite(artefact, format=3, something_new=1)
    refused(artefact, "format 3, this version reads 2; export the checkpoint with this version")


@pytest.mark.parametrize("name", ["../user.bin", "tables/../../user.bin", "/etc/passwd", "", ".",
                                  "tables/..", "tables/a/b.bin", "tables\\x.bin"])  # fmt: skip
def test_names_that_lead_out(artefact: Path, name: str) -> None:
    tree = json.loads((artefact / ARTEFACT_NAME).read_text())
    (artefact.parent / "user.bin").write_bytes((artefact / "tables" / "user.bin").read_bytes())
    tree["files"][name] = tree["files"].pop("tables/user.bin")
    tree["tables"]["user"]["file"] = name
    rewrite(artefact, files=tree["files"], tables=tree["tables"])
    refused(artefact, r"the file name .* is not allowed")


@pytest.mark.parametrize("name", ["tables", "tables/user.bin", "dense.pt2", ARTEFACT_NAME])
def test_links_are_not_followed(artefact: Path, name: str) -> None:
    elsewhere = artefact.parent / "elsewhere"
    (artefact / name).rename(elsewhere)
    (artefact / name).symlink_to(elsewhere)
    refused(artefact, "symbolic link|is not allowed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "something else"}, "not an artefact"),
        ({"tables": {}}, "but the features need"),
        ({"features": []}, "but the features need"),
        ({"outputs": []}, None),
        ({"predictions": ["ctr"]}, "outputs of unknown predictions"),
        ({"sequences": {"clicks": "nothing"}}, "sequences of unknown features"),
        ({"unknown": 1}, "not an artefact"),
    ],
)
def test_parts_that_do_not_fit(artefact: Path, changes: dict[str, Any], said: str | None) -> None:
    rewrite(artefact, **changes)
    if said is None:
        assert Predictor(artefact).outputs == ()
    else:
        refused(artefact, said)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["sample_inputs", "constants", "weights", "extra"])
def test_a_pickle_in_the_program_does_not_run(artefact: Path, place: str, tmp_path: Path) -> None:
    """Also where the hashes were made to fit: a .pt2 of ours holds no pickle."""
    boom = tmp_path / "boom"
    bomb = pickle.dumps(Bomb(boom))
    with zipfile.ZipFile(artefact / "dense.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    top = next(iter(members)).partition("/")[0]
    weights = f"{top}/data/weights/model_weights_config.json"
    if place == "sample_inputs":
        members[f"{top}/data/sample_inputs/model.pt"] = bomb
    elif place == "constants":
        config = {"config": {"x": {"path_name": "opaque_obj_0", "is_param": False,
                                   "use_pickle": True, "tensor_meta": None}}}  # fmt: skip
        members[f"{top}/data/constants/model_constants_config.json"] = json.dumps(config).encode()
        members[f"{top}/data/constants/opaque_obj_0"] = bomb
    elif place == "weights":
        config = json.loads(members[weights])
        entry = next(iter(config["config"].values()))
        entry["use_pickle"] = True
        members[weights] = json.dumps(config).encode()
        members[f"{top}/data/weights/{entry['path_name']}"] = bomb
    else:
        members[f"{top}/data/weights/model.pt"] = bomb
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (artefact / "dense.pt2").write_bytes(buffer.getvalue())
    rewrite(artefact)
    refused(artefact, "may be a pickle; it is not loaded")
    assert not boom.exists()


def test_a_member_that_is_there_twice_does_not_hide_a_pickle(
    artefact: Path, tmp_path: Path
) -> None:
    """Python's zipfile sees the last of two, torch the first."""
    boom = tmp_path / "boom"
    with zipfile.ZipFile(artefact / "dense.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    [samples] = [name for name in members if name.endswith("sample_inputs/model.pt")]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(samples, pickle.dumps(Bomb(boom)))
        del archive.NameToInfo[samples]  # Python would warn of its second
        for name, content in members.items():
            archive.writestr(name, content)
    (artefact / "dense.pt2").write_bytes(buffer.getvalue())
    rewrite(artefact)
    refused(artefact, "two members are named")
    assert not boom.exists()


@pytest.mark.parametrize("what", ["garbage", "not a program"])
def test_what_is_no_program(artefact: Path, what: str) -> None:
    path = artefact / "dense.pt2"
    if what == "garbage":
        path.write_bytes(b"PK nothing")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("d/models/model.json", "{}")
    rewrite(artefact)
    refused(artefact, "not a program of torch.export")


def test_export_replaces_an_artefact_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Model(small_config(), seed=1).export(out)
    before = (out / "dense.pt2").read_bytes()
    Model(small_config(), seed=2).export(out)
    assert (out / "dense.pt2").read_bytes() != before
    Predictor(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("mine too")
    (tmp_path / "link").symlink_to(out)
    for name, said in (("mine", "not an artefact"), ("file", "not an artefact"), ("link", "link")):
        with pytest.raises(ConfigError, match=said):
            Model(small_config()).export(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "mine too"


def test_a_failed_export_leaves_the_old_artefact(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in artefact.rglob("*") if p.is_file()}

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("marigold_rec.serving.writing.save_program", full)
    with pytest.raises(ConfigError, match=r"can't write to .*No space left"):
        Model(small_config(), seed=8).export(artefact)
    assert {p: p.read_bytes() for p in artefact.rglob("*") if p.is_file()} == before
    assert [p.name for p in artefact.parent.iterdir()] == ["artefact"]


def test_an_artefact_that_goes_while_it_is_opened(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = read_artefact(artefact)
    shutil.rmtree(artefact / "tables")
    monkeypatch.setattr("marigold_rec.serving.predictor.read_artefact", lambda _: verified)
    refused(artefact, r"tables/.*can't be read .*open it again")
