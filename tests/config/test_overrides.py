"""`key.path=value`: where it lands, and what it may not do."""

from __future__ import annotations

from typing import Any

import pytest

from marigold_rec.config.overrides import apply_override
from marigold_rec.errors import ConfigError


def tree() -> dict[str, Any]:
    return {
        "run": {"seed": 3, "dir": None},
        "features": [{"name": "user", "rows": 9}, {"name": "2", "rows": 8}, "odd"],
        "empty": [],
    }


SET = [
    ("run.seed=4", ("run", "seed"), 4),
    ("run.seed=1e-4", ("run", "seed"), 1e-4),
    ("run.name=no", ("run", "name"), "no"),
    ("run.name=a=b", ("run", "name"), "a=b"),
    ("run.name=", ("run", "name"), None),
    ("run.dir=[a, {b: 1}]", ("run", "dir"), ["a", {"b": 1}]),
    ("run.dir.deep.er=1", ("run", "dir", "deep", "er"), 1),  # null makes room for a section
    ("model.trunk.name=ple", ("model", "trunk", "name"), "ple"),
    ("features.user.rows=1", ("features", 0, "rows"), 1),
    ("features.0.rows=1", ("features", 0, "rows"), 1),
    ("features.2=x", ("features", 2), "x"),  # an index goes before a name
    ("features.user={name: us}", ("features", 0), {"name": "us"}),
    ("features=[]", ("features",), []),
]


@pytest.mark.parametrize(("override", "path", "expected"), SET)
def test_one_value_is_set(override: str, path: tuple[str | int, ...], expected: Any):
    found = tree()
    apply_override(found, override)
    here: Any = found
    for part in path:
        here = here[part]
    assert here == expected
    untouched = [key for key in tree() if key != path[0]]
    assert all(found[key] == tree()[key] for key in untouched)


def test_later_overrides_see_earlier_ones():
    found = tree()
    for override in ("features.0.name=who", "features.who.rows=5", "model.trunk.experts=2"):
        apply_override(found, override)
    assert found["features"][0] == {"name": "who", "rows": 5}
    assert found["model"] == {"trunk": {"experts": 2}}


REFUSED = [
    ("seed", "expected key.path=value"),
    ("=3", "expected key.path=value"),
    ("", "expected key.path=value"),
    ("features.usre.rows=1", "no entry 'usre'; did you mean 'user'?"),
    ("features.3.rows=1", "no entry '3'; known here: user, 2"),
    ("features.-1.rows=1", "no entry '-1'; known here: user, 2"),
    ("features.².rows=1", "no entry '²'; known here: user, 2"),
    ("empty.0=1", "no entry '0'; nothing may stand here"),
    ("run.seed.x=1", "run.seed is a plain value (3); nothing lies below it"),
    ("run.seed.x.y=1", "run.seed is a plain value (3); nothing lies below it"),
    ("features.2.rows=1", "features.2 is a plain value ('odd'); nothing lies below it"),
    ("run.seed={", "not valid YAML here"),
    ("run.seed=!!python/name:os.system", "could not determine a constructor"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_refusals_name_the_override_and_change_nothing(override: str, message: str):
    found = tree()
    with pytest.raises(ConfigError) as caught:
        apply_override(found, override)
    assert str(caught.value).startswith(f"override {override!r}")
    assert message in str(caught.value)
    assert found == tree()
