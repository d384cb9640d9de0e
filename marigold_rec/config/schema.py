"""The config tree: one frozen, typed model per section; unknown keys are refused.

Every field has a default except what only the user can know (features and tasks). Units stand in
the names. Cross-field checks stand beside their fields; what depends on the number of ranks is
checked in `launch/build.py`, once that number is known.
"""

from __future__ import annotations

import datetime
from collections import Counter
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marigold_rec.config.balancers import Balancer, MarigoldBalancerConfig
from marigold_rec.config.life_cycle import LifeCycleConfig
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.config.section import Section

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
RUN_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Width = Annotated[int, Field(ge=1, le=65536)]


def _moment(text: object) -> object:
    try:
        return datetime.datetime.fromisoformat(text) if isinstance(text, str) else text
    except ValueError:
        return text  # no datetime: refused as that


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC)


Moment = Annotated[datetime.datetime, BeforeValidator(_moment), AfterValidator(_in_utc)]
"""2024-01-05 (its first moment) or 2024-01-05T06:00:00Z; without a time zone it is UTC."""


class RunConfig(Section):
    name: str = Field(default="default", pattern=RUN_NAME_PATTERN)
    dir: str = Field(
        default="runs", description="Parent folder; the run writes only below dir/name."
    )
    seed: int = Field(default=7, ge=0, lt=2**31)
    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(
        default=None, ge=1, description="Stop after this many steps; null: no limit."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="Of the dense part in training. bf16: under autocast; losses, heads, probes, "
        "parameters and tables stay in float32.",
    )


class SplitConfig(Section):
    path: str | None = Field(default=None, description="Overrides data.path for this split.")
    dates: tuple[datetime.date, datetime.date] | None = Field(
        default=None,
        description="First and last day (both included) of Hive-style dt=YYYY-MM-DD folders.",
    )
    due: tuple[Moment, Moment] | None = Field(
        default=None,
        description="[since, until), UTC: only labels that become due in it (event time + the "
        "task's matures_h) count, the others are unobserved; null: all count.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> SplitConfig:
        if self.due is not None and self.due[0] >= self.due[1]:
            since, until = (moment.isoformat() for moment in self.due)
            raise ValueError(f"due must rise: since {since} is not before until {until}")
        if self.dates is not None and self.dates[0] > self.dates[1]:
            raise ValueError(
                f"dates run backwards: {self.dates[0]} is after {self.dates[1]}; swap them"
            )
        return self


class SyntheticConfig(Section):
    """The embedded click log with known truth, made on first use when data.path is null."""

    days: int = Field(default=6, ge=1, le=366, description="From 2024-01-01 on.")
    rows_per_day: int = Field(
        default=40_000, ge=100, le=20_000_000, description="One day fits in memory."
    )
    users: int = Field(default=20_000, ge=10, description="On the first day; see cold_share.")
    items: int = Field(default=4_000, ge=10, description="On the first day; see cold_share.")
    seed: int = Field(default=1, ge=0)
    click_rate: float = Field(
        default=0.2, gt=0, lt=1, description="Expected share on the first day."
    )
    conversion_rate: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="Of clicked rows, in the end; expected on the first day.",
    )
    conversion_delay_h: float = Field(
        default=12.0, gt=0, description="Mean of the exponential time from click to conversion."
    )
    cold_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="New items (users) each day, as a share of items (users).",
    )
    conflict: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Correlation of the factors of click and conversion: 0.5 - 1.5 * conflict.",
    )


class DataConfig(Section):
    path: str | None = Field(
        default=None,
        description="Folder or any fsspec URL of Parquet files; null: the embedded synthetic log.",
    )
    synthetic: SyntheticConfig = SyntheticConfig()
    train: SplitConfig = SplitConfig()
    eval: SplitConfig | None = None
    batch_size: int = Field(default=2048, ge=1, description="Rows per rank and step.")
    eval_batch_size: int | None = Field(
        default=None, ge=1, description="null: the same as batch_size."
    )
    shuffle_rows: int = Field(
        default=65_536,
        ge=0,
        description="Rows per rank that are shuffled together, window by window through the days; "
        "0: file order. Row groups larger than this make the windows larger (two groups per rank).",
    )
    weight: str | None = Field(default=None, description="Column of per-row loss weights (>= 0).")
    verify_checksums: bool = True
    reader_threads: int = Field(default=1, ge=1, le=64)
    max_invalid_labels: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Refuse the data when more than this share of a task's labels (or of the "
        "weights) is invalid, over the rows that a rank has read.",
    )
    # Not `schema`: pydantic's models have a method of that name.
    schema_file: str | None = Field(
        default=None,
        description="Schema that every file is held against (data_pipelines.validate writes one); "
        "null: the first file's.",
    )
    on_bad_file: Literal["fail", "skip"] = Field(
        default="fail",
        description="A file whose footer can't be read or whose schema does not fit, at the start. "
        "Damage inside a row group, met while training, always fails: every rank's rows are fixed "
        "by then.",
    )
    max_skipped_files: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Share of a split's files that may be skipped."
    )
    time: str | None = Field(
        default=None,
        description="Column of when a row happened (integer or timestamp): evaluation must begin "
        "after training has ended, by the statistics in the footers; and labels become due by it.",
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = Field(
        default=None,
        description="Of integer columns of times, which count from 1970 in UTC; needed where "
        "labels become due by them. Timestamps have their own (without a time zone they are UTC).",
    )
    allow_time_overlap: bool = False


class _Feature(Section):
    name: Name
    column: str | None = Field(
        default=None, description="Parquet column; null: the feature's name."
    )

    @property
    def source(self) -> str:
        return self.column if self.column is not None else self.name


class _SparseFeature(_Feature):
    table: Name | None = Field(default=None, description="Embedding table; null: one of its own.")
    dim: int | None = Field(
        default=None,
        ge=4,
        le=8192,
        multiple_of=4,  # FBGEMM's kernels take no other, and say so late and on one rank
        description="Width of an embedding row.",
    )
    pooling: Literal["sum", "mean"] | None = Field(
        default=None,
        description="How a list's rows are joined; null: as the table's other features, sum.",
    )

    ids_per_row: float = Field(
        default=1.0, gt=0, description="Average length of a list, for the sharding planner."
    )

    @property
    def table_name(self) -> str:
        return self.table if self.table is not None else self.name


class HashFeature(_SparseFeature):
    """Integers or strings, or lists of them: 64-bit mix, then modulo `rows`."""

    kind: Literal["hash"]
    rows: int | None = Field(default=None, ge=1)


class IdFeature(_SparseFeature):
    """Integers (or lists) already in [0, rows)."""

    kind: Literal["id"]
    rows: int | None = Field(default=None, ge=1)
    out_of_range: Literal["error", "drop", "clamp"] = Field(
        default="error",
        description="drop: the id is left out of its bag; clamp: the last row. Counted.",
    )


class BucketizeFeature(_SparseFeature):
    """A number cut at `boundaries`: row i holds boundaries[i-1] <= x < boundaries[i]."""

    kind: Literal["bucketize"]
    boundaries: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> BucketizeFeature:
        for low, high in pairwise(self.boundaries):
            if low >= high:
                raise ValueError(f"boundaries must rise strictly: {low:g} is not below {high:g}")
        return self

    @property
    def rows(self) -> int:
        return len(self.boundaries) + 1


class VocabFeature(_SparseFeature):
    """Known values get a row each, in the order given; any other value shares row 0."""

    kind: Literal["vocab"]
    values: tuple[str | int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> VocabFeature:
        if len({type(v) for v in self.values}) > 1:
            raise ValueError("values must be all text or all integers; put the numbers into quotes")
        twice = [value for value, count in Counter(self.values).items() if count > 1]
        if twice:
            raise ValueError(f"values must be unique: {twice[0]!r} stands there more than once")
        return self

    @property
    def rows(self) -> int:
        return len(self.values) + 1


class Standardize(Section):
    mean: float
    std: float = Field(gt=0)


class DenseFeature(_Feature):
    """A number fed to the dense part: fill missing, then log1p, then clip, then standardize."""

    kind: Literal["dense"]
    missing: float = Field(default=0.0, description="Takes the place of null and NaN (raw units).")
    transform: Literal["none", "log1p"] = Field(
        default="none", description="log1p: sign(x) log(1+|x|)."
    )
    clip: tuple[float, float] | None = Field(
        default=None, description="Limits after the transform."
    )
    standardize: Standardize | None = Field(
        default=None, description="(x - mean) / std, applied last."
    )

    @model_validator(mode="after")
    def _clip_ordered(self) -> DenseFeature:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip must rise: {self.clip[0]:g} is not below {self.clip[1]:g}")
        return self


SparseFeature = HashFeature | IdFeature | BucketizeFeature | VocabFeature
Feature = Annotated[SparseFeature | DenseFeature, Field(discriminator="kind")]


class _Task(Section):
    name: Name
    label: str = Field(description="Parquet column; null means unobserved.")
    observed_if: str | None = Field(
        default=None, description="0/1 column; the label counts only where it is 1."
    )
    matures_h: float = Field(
        default=0.0,
        ge=0,
        le=87_600,
        description="Hours after the row's event time at which the label is final, and due: its "
        "attribution window.",
    )


class BinaryTask(_Task):
    kind: Literal["binary"]
    event_time: str | None = Field(
        default=None,
        description="Column of when a label of 1 came true (conversion_time_ms, say): later than "
        "matures_h after the row's event time it is 0.",
    )


class WatchTimeTask(_Task):
    """Watch time in seconds, learned on log(1+s); predictions are in seconds."""

    kind: Literal["watch_time"]
    method: Literal["log_mse", "log_huber"] = "log_mse"
    huber_delta: float = Field(default=1.0, gt=0, description="In units of log(1+s).")
    max_s: float = Field(
        default=86_400.0, gt=0, description="Longer labels are invalid, in seconds."
    )


Task = Annotated[BinaryTask | WatchTimeTask, Field(discriminator="kind")]


class _Model(Section):
    tower_layers: tuple[Width, ...] = (32,)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    head_start: Literal["labels", "zero"] = Field(
        default="labels",
        description="Where the heads' biases begin; labels: at the mean label of the first batch.",
    )


class SharedBottomModel(_Model):
    name: Literal["shared_bottom"]
    bottom_layers: tuple[Width, ...] = Field(default=(128, 64), min_length=1)


class MMoEModel(_Model):
    name: Literal["mmoe"]
    experts: int = Field(default=4, ge=1)
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)


class PLEModel(_Model):
    name: Literal["ple"]
    levels: int = Field(default=2, ge=1)
    shared_experts: int = Field(default=2, ge=1)
    task_experts: int = Field(default=1, ge=1, description="Experts of each task, per level.")
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)


Model = Annotated[SharedBottomModel | MMoEModel | PLEModel, Field(discriminator="name")]


class SparseOptimizerConfig(Section):
    name: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    lr: float = Field(default=0.05, gt=0)
    eps: float = Field(default=1e-8, gt=0)


class DenseOptimizerConfig(Section):
    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0, description="Linear warm-up from lr/n to lr.")
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="Largest global norm of the dense gradients; null: no clipping.",
    )


class OptimizerConfig(Section):
    sparse: SparseOptimizerConfig = SparseOptimizerConfig()
    dense: DenseOptimizerConfig = DenseOptimizerConfig()


ShardingType = Literal["auto", "table_wise", "row_wise", "column_wise"]


class ShardingConfig(Section):
    default: ShardingType = Field(default="auto", description="auto: the planner chooses.")
    tables: dict[str, ShardingType] = Field(default_factory=dict, description="Table -> type.")
    hbm_gib: float = Field(
        default=32.0, gt=0, description="Accelerator memory per rank, for the planner."
    )
    host_gib: float = Field(
        default=64.0, gt=0, description="Host memory per rank, for the planner."
    )


class CheckpointConfig(Section):
    every_n_steps: int | None = Field(
        default=None, ge=1, description="null: only at the end and on stop."
    )
    keep: int = Field(default=2, ge=1, description="The last so many stay.")
    keep_every_n_hours: float | None = Field(
        default=None,
        gt=0,
        description="Beside them one of every so many hours stays, by when it was saved; "
        "null: none.",
    )
    keep_best_by: str | None = Field(
        default=None,
        description="Beside them the best stays, by its newest train/window_* figure: "
        "window_auc/ctr, say. One that was saved before the window was full has none; null: none.",
    )
    mirror: str | None = Field(
        default=None,
        min_length=1,
        description="A folder or fsspec URL (s3://bucket/runs) that gets a copy of each "
        "checkpoint, as <mirror>/<run.name>/step-...; --resume auto looks there too; null: none.",
    )
    mirror_patience_s: float = Field(
        default=1800,
        gt=0,
        description="How long the end of a run waits for the last copy.",
    )
    asynchronous: bool = Field(
        default=True,
        description="Training waits only until the state is copied to host memory, which holds "
        "one more copy of it then; false: until it is on the disk.",
    )
    max_misses: int = Field(
        default=3,
        ge=0,
        description="Saves in a row that may fail, a full disk say, before the run ends; the last "
        "save of a run may never.",
    )


class WarmStartConfig(Section):
    """A new run that begins with the model of an older one, perhaps under a changed config."""

    path: str | None = Field(
        default=None, description="A run's folder, or one of its step-... folders; null: none."
    )
    new: tuple[str, ...] = Field(
        default=(),
        description="What may begin anew where the checkpoint has nothing that fits: "
        "tables.<name>, network.<parameter> or the beginning of such a name.",
    )
    optimizer: bool = Field(
        default=True, description="Carry the optimizers' state over, where the values are."
    )


class NumericsConfig(Section):
    """What happens where numbers are not finite. It is decided before a step's backward."""

    on_non_finite: Literal["stop", "skip_batch"] = Field(
        default="stop",
        description="A step whose losses or task weights are not finite. skip_batch: it changes "
        "nothing, and its rows are passed over, counted and logged.",
    )
    max_skipped_batches: int = Field(
        default=10, ge=0, description="Per start of the run; the next one stops it."
    )
    check_tables_every_n_steps: int | None = Field(
        default=None,
        ge=1,
        description="Look at some 4,096 rows of each table shard, others each time, at the first "
        "logging step after so many steps; null: only where losses or checkpoints show it.",
    )


class LoggingConfig(Section):
    every_n_steps: int = Field(default=50, ge=1)
    window_rows: int | None = Field(
        default=20_000,
        ge=1,
        description="Newest training rows of all ranks, in whole batches, whose train/window_* "
        "figures are logged; null: none.",
    )
    tensorboard: bool = True


class EvaluationConfig(Section):
    """What launch/evaluate.py reports. Columns that the data lacks give a warning, no figures."""

    user: str | None = Field(
        default="user_id", description="Column: intervals and GAUC take a user's rows together."
    )
    item: str | None = Field(
        default="item_id", description="Column: slices by how often training saw the item."
    )
    group: str | None = Field(
        default=None, description="Column: a slate, within which NDCG and MRR rank."
    )
    ndcg_at: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10)
    slices: tuple[str, ...] = Field(
        default=(), description="Columns; numbers of many values are cut into ten equal parts."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0, description="Of all intervals.")


class DistributedConfig(Section):
    timeout_s: int = Field(
        default=600,
        ge=1,
        description="Collectives give up after this long: while a run begins, and in evaluation.",
    )
    step_timeout_s: int = Field(
        default=120,
        ge=1,
        description="The same between steps, once the first is taken, so that a rank that hangs "
        "ends the others soon; longer than a rank may wait for its data. At most timeout_s counts.",
    )
    threads_per_rank: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Intra-op threads on CPU; null: cores / ranks on this machine.",
    )


class Config(Section):
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    features: tuple[Feature, ...]
    tasks: tuple[Task, ...]
    model: Model = MMoEModel(name="mmoe")
    balancer: Balancer = MarigoldBalancerConfig(name="marigold")
    optimizer: OptimizerConfig = OptimizerConfig()
    sharding: ShardingConfig = ShardingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    life_cycle: LifeCycleConfig = LifeCycleConfig()
    numerics: NumericsConfig = NumericsConfig()
    logging: LoggingConfig = LoggingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    nightly: NightlyConfig = NightlyConfig()
    distributed: DistributedConfig = DistributedConfig()

    @property
    def sparse_features(self) -> tuple[SparseFeature, ...]:
        return tuple(f for f in self.features if not isinstance(f, DenseFeature))

    @property
    def dense_features(self) -> tuple[DenseFeature, ...]:
        return tuple(f for f in self.features if isinstance(f, DenseFeature))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tasks)
