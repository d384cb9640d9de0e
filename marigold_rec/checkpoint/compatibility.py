"""Which settings must be the same when a run goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from marigold_rec.config.due import event_time_of
from marigold_rec.config.flat import flat_settings
from marigold_rec.config.schema import Config

# Settings that change neither the model nor the order of rows. Where the log lies is free: that the
# files are the same is what their fingerprint in the manifest vouches for.
_FREE = ("run.name", "run.dir", "run.epochs", "run.steps", "run.device", "logging", "checkpoint",
         "distributed", "evaluation", "nightly", "warm_start", "sharding", "numerics", "data.eval",
         "data.eval_batch_size", "data.reader_threads", "data.verify_checksums", "data.path",
         "data.train.path", "data.schema_file", "data.on_bad_file", "data.max_skipped_files",
         "data.time", "data.allow_time_overlap",
         "life_cycle.rows")  # fmt: skip

# Rows of a rank: at another number of ranks they have to change for the rows of a step to stay.
_FREE_ELSEWHERE = ("data.batch_size",)


def config_differences(
    saved: Mapping[str, object], config: Config, *, is_same_world: bool = True
) -> list[str]:
    """One line per setting that differs and matters: `model.experts: 4 then, 8 now`.

    `is_same_world`: the run goes on at the number of ranks that saved the checkpoint.
    """
    free = _FREE if is_same_world else _FREE + _FREE_ELSEWHERE
    if config.data.train.due is not None or any(map(event_time_of, config.tasks)):
        free = tuple(key for key in free if key != "data.time")  # labels hang on it
    then = flat_settings(saved)
    now = flat_settings(config.model_dump(mode="json"))
    return [
        f"{key}: {then.get(key, 'absent')!r} then, {now.get(key, 'absent')!r} now"
        for key in sorted(then | now)
        if then.get(key) != now.get(key) and not _is_free(key, free)
    ]


def _is_free(key: str, all_free: tuple[str, ...]) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in all_free)
