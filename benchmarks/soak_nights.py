"""Kills and stops nights at random moments, and shows that they end as if nothing had been.

    python benchmarks/soak_nights.py --events 200 [--seed 0] [--seconds 3000] [--folder /some/disk]

A season is a list of commands on a tiny log: nights, rollbacks, nights done again from a stage, a
night that the gate refuses. It is done once undisturbed. Then each command is disturbed again and
again, until it has ended by itself: killed at a named point or at any moment of a stage (before the
training's first step, in evaluation, in export, between history and pointer), alone or with its
stage's program; stopped by SIGTERM; or its stage's program killed beneath it. After each event what
is published must be whole, passed by a gate, and one model for servers and training; after each
command history, pointer, verdict, every tensor of the current model and what its artefact predicts
must be those of the undisturbed season.

The processes are forked (tests/support/nightly.py), which saves nine tenths of the time. What
tests/jobs/nightly/test_soak_nights.py runs, for longer. Prints one line of JSON; exit code 1 if a
promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from benchmarks.soak import SoakError  # noqa: E402
from jobs.nightly.folder import NightlyFolder  # noqa: E402
from jobs.nightly.publishing import Published  # noqa: E402
from jobs.nightly.stages import STAGE_NAMES  # noqa: E402
from marigold_rec.serving import Predictor  # noqa: E402
from tests.support.launches import checkpoint_tensors  # noqa: E402
from tests.support.nightly import Nightly  # noqa: E402
from tests.support.patience import with_children  # noqa: E402
from tests.support.runs import click_log, config_tree, write_config, write_days  # noqa: E402

_POINTS = (
    *(f"{stage}:{end}" for stage in STAGE_NAMES for end in ("begin", "end")),
    *("publish:history", "rollback:history", "redo:begun", "redo:cleared"),
)
_LONG = ("train", "evaluation", "export")
"""The stages with a program of their own, where a random moment is likely to fall."""
_MOST_PER_COMMAND = 6
"""Events; then it may end."""
_ATTEMPT_S = 600.0
_ENDED = (0, 6)


@dataclass(frozen=True)
class Command:
    night: int | None
    """None: a rollback."""
    again_from: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def day(self) -> datetime.date:
        assert self.night is not None
        return _day(self.night)

    def arguments(self, *, again: bool) -> tuple[str, ...]:
        if self.night is None:
            return ("--rollback",)
        redo = ("--from", self.again_from) if self.again_from and again else ()
        return ("--date", str(self.day), *redo, *self.overrides)


_STRICT = ("nightly.gate.tasks.ctr.auc={min: 0.999, by: value}",)
SEASON = (
    Command(2),
    Command(3),
    Command(None),
    Command(3, "train"),
    Command(4, overrides=_STRICT),
    Command(4, "gate"),
    Command(None),
    Command(4, "data"),
    Command(5, overrides=_STRICT),
    Command(None),
    Command(5, "data"),
)


@dataclass
class Tally:
    events: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    """By the stage that an event met."""
    seasons: int = 0
    commands: int = 0

    @property
    def num_events(self) -> int:
        return self.events.total()


class Season:
    """A nightly of its own, over the same log."""

    def __init__(self, folder: Path, log: Path) -> None:
        tree = config_tree(log, folder / "runs")
        tree |= {
            "tasks": tree["tasks"][:1],
            "nightly": {"launcher": [sys.executable], "first_days": 3, "keep_published": 5},
            "evaluation": {"user": "user", "item": "item"},
            "checkpoint": {"every_n_steps": 2},
        }
        del tree["data"]["train"], tree["data"]["eval"]
        folder.mkdir(parents=True)
        self.config = write_config(tree, folder / "config.yaml")
        self.root = folder / "runs" / "test"
        self.said = folder / "said.log"
        self._scratch = folder

    def start(self, arguments: Sequence[str], killed_at: str | None = None) -> Nightly:
        return Nightly(self.config, *arguments, log=self.said, killed_at=killed_at)

    def wait(self, night: Nightly) -> int:
        code = _join(night, _ATTEMPT_S)
        if code is None:
            raise SoakError(f"{self.said}: a command does not end in {_ATTEMPT_S:.0f} s")
        return code

    def standing(self, code: int, command: Command) -> dict[str, Any]:
        """All that must not depend on what came between."""
        published = Published(self.root)
        current = published.current
        found: dict[str, Any] = {
            "code": code,
            "history": [(change.what, str(change.night)) for change in published.history],
        }
        if command.night is not None:
            verdict = NightlyFolder(self.root, command.day).verdict
            found["verdict"] = None if verdict is None else verdict.json_text()
        if current is not None:
            model = published.reachable()[-1].model
            tensors = checkpoint_tensors(self.root / model.checkpoint, self._scratch)
            found["tensors"] = {
                name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
                for name, tensor in tensors.items()
            }
            artefact = NightlyFolder(self.root, current).artefact
            served = Predictor(artefact).predict(click_log(50, seed=99))
            found["served"] = {name: served[name].tolist() for name in served}
        return found

    def require_sound(self) -> None:
        """At any moment: what is in use is whole, was passed, and is one model for everybody."""
        published = Published(self.root)
        published.check()
        published.base()
        if (current := published.current) is None:
            return
        verdict = NightlyFolder(self.root, current).verdict
        if verdict is None or verdict.stage != "night" or not verdict.publish:
            raise SoakError(f"{self.root}: the model of {current} is in use, and no gate passed it")
        if published.pointer.is_symlink():
            served = datetime.date.fromisoformat(published.pointer.readlink().name)
            last = published.history[-1]
            before = published.history[-2].night if len(published.history) > 1 else None
            if served not in (last.night, before):
                raise SoakError(f"{published.pointer}: leads to {served}, not to {last.night}")


def soak(
    folder: Path, events: int, seed: int, seconds: float, commands: Sequence[Command] = SEASON
) -> dict[str, Any]:
    """Below `folder` until `events` are spent, or no time is left for more."""
    began, random_, tally = time.monotonic(), random.Random(seed), Tally()
    days = {str(_day(n)): click_log(400, seed=n) for n in range(1, 6)}
    log = write_days(folder / "log", days)
    expected, took = _undisturbed(Season(folder / "undisturbed", log), commands)
    while tally.num_events < events and time.monotonic() - began < seconds:
        tally.seasons += 1
        season = Season(folder / f"disturbed-{tally.seasons}", log)
        for index, command in enumerate(commands):

            def is_over() -> bool:
                return tally.num_events >= events or time.monotonic() - began > seconds

            code = _disturbed(season, command, took[index], random_, tally, is_over)
            tally.commands += 1
            _compare(season, command, season.standing(code, command), expected[index])
        if not season.root.samefile(Published(season.root).pointer.resolve().parents[1]):
            raise SoakError(f"{season.root}: its pointer leads out of it")
    return {
        "events": dict(tally.events),
        "met": dict(tally.moments),
        "seasons": tally.seasons,
        "commands": tally.commands,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "identical": True,
    }


def _undisturbed(
    season: Season, commands: Sequence[Command]
) -> tuple[list[dict[str, Any]], list[float]]:
    standings, took = [], []
    for command in commands:
        began = time.monotonic()
        code = season.wait(season.start(command.arguments(again=True)))
        took.append(time.monotonic() - began)
        if code not in _ENDED:
            raise SoakError(f"{season.said}: {command} has ended with {code} undisturbed")
        season.require_sound()
        standings.append(season.standing(code, command))
    return standings, took


def _disturbed(
    season: Season,
    command: Command,
    took: float,
    random_: random.Random,
    tally: Tally,
    is_over: Any,
) -> int:
    """Disturbs `command` until it ends by itself; returns its exit code."""
    changes = len(Published(season.root).history)
    is_begun = False
    for attempt in range(1_000):
        if command.night is None and len(Published(season.root).history) > changes:
            return 0  # it was killed when it was done: again would go back once more
        arguments = command.arguments(again=not is_begun)
        if is_over() or attempt >= _MOST_PER_COMMAND:
            return _ended_well(season, command, season.wait(season.start(arguments)))
        kind = random_.choice(("point", "alone", "all", "program", "stop"))
        begin = season.said.stat().st_size if season.said.exists() else 0
        code = _event(season, arguments, kind, took, random_)
        said = season.said.read_bytes()[begin:].decode(errors="replace")
        season.require_sound()
        if code in _ENDED:
            return code
        tally.events[kind] += 1
        stages = [line.rsplit(" ", 1)[1] for line in said.splitlines() if _names_a_stage(line)]
        met = stages[-1] if stages else "no stage"
        if met == "train" and "INFO step " not in said:
            met = "train, before its first step"
        tally.moments[met] += 1
        if command.again_from:
            folder = NightlyFolder(season.root, command.day)
            # A redo that was begun goes on without --from; before, the night is as it was.
            is_begun = is_begun or folder.redo is not None or folder.ending is None
    raise AssertionError("unreachable")


def _event(
    season: Season, arguments: Sequence[str], kind: str, took: float, random_: random.Random
) -> int | None:
    """Starts the command and does it harm; returns its exit code."""
    if kind == "point":
        night = season.start(arguments, killed_at=random_.choice(_POINTS))
        return season.wait(night)
    begin = season.said.stat().st_size if season.said.exists() else 0
    night = season.start(arguments)
    stage, share = random_.choice((*_LONG, None)), random_.random()
    if stage is None or "--rollback" in arguments:
        _join(night, took * share)
    else:
        _wait_for(night, season.said, begin, f": {stage}")
        _join(night, took / 3 * share)
    _harm(night, kind)
    return season.wait(night)


def _harm(night: Nightly, kind: str) -> None:
    if night.poll() is not None:
        return
    below = [pid for pid in with_children([night.pid]) if pid != night.pid]
    match kind:
        case "stop":
            night.terminate()
        case "alone":
            night.kill()
        case "all":
            for pid in [*below, night.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case "program":
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case _:
            raise AssertionError(kind)


def _wait_for(night: Nightly, said: Path, begin: int, end: str) -> None:
    """Until the night says a line that ends like this, or has ended."""
    while night.poll() is None:
        lines = said.read_bytes()[begin:].decode(errors="replace").splitlines()
        if any(line.endswith(end) for line in lines):
            return
        time.sleep(0.02)


def _join(night: Nightly, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while (code := night.poll()) is None and time.monotonic() < until:
        time.sleep(0.02)
    return code


def _ended_well(season: Season, command: Command, code: int) -> int:
    season.require_sound()
    if code not in _ENDED:
        raise SoakError(
            f"{season.said}: {command} has ended with {code}, though nobody disturbed it"
        )
    return code


def _names_a_stage(line: str) -> bool:
    return "INFO night " in line and line.rsplit(": ", 1)[-1] in STAGE_NAMES


def _compare(
    season: Season, command: Command, found: dict[str, Any], expected: dict[str, Any]
) -> None:
    for name, value in expected.items():
        if found[name] != value:
            raise SoakError(
                f"{season.root}: after {command} {name} is {str(found[name])[:500]}, undisturbed "
                f"{str(value)[:500]}"
            )


def _day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end about then")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to use")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-nights-", dir=arguments.folder))
    try:
        found = soak(folder, arguments.events, arguments.seed, arguments.seconds)
    except Exception as error:
        print(json.dumps({"identical": False, "seed": arguments.seed, "error": str(error)}))
        print(f"everything is left in {folder}", file=sys.stderr)
        if not isinstance(error, SoakError):
            raise
        return 1
    shutil.rmtree(folder)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
