"""benchmarks/soak.py, reduced: a run that is killed again and again ends as if undisturbed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.soak import Setting, SoakError, require_whole, soak
from marigold_rec.checkpoint.manifest import MANIFEST_NAME
from marigold_rec.errors import CheckpointError
from tests.support.launches import codes, launch_train
from tests.support.runs import default_setup
from tests.support.torchrun import Torchrun


def forked(arguments: Sequence[str], log: Path) -> Torchrun:
    return Torchrun(*arguments, log=log)


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_undisturbed(tmp_path: Path) -> None:
    setting = Setting(default_setup(tmp_path, rows=1000), steps=100, start=forked, patience_s=20)
    found = soak(setting, kills=3, seed=5, seconds=200)
    assert found["identical"]
    assert sum(found["kills"].values()) == 3


def test_the_soak_would_notice_a_checkpoint_that_is_not_whole(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    assert codes(launch_train(config, num_ranks=1)) == [0]
    root = tmp_path / "runs/test/checkpoints"
    require_whole(root)
    [folder] = root.iterdir()
    victim = max((p for p in folder.iterdir() if p.name != MANIFEST_NAME), key=lambda p: p.name)
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with pytest.raises((SoakError, CheckpointError)):
        require_whole(root)
