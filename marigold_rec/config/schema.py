"""The config tree: one frozen, typed model per section; unknown keys are refused.

Every field has a default except what only the user can know (features and tasks). Units stand in
the names. Cross-field checks stand beside their fields; what depends on the number of ranks is
checked in `jobs/assembly/data.py`, once that number is known.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from marigold_rec.config.balancers import Balancer, MarigoldBalancerConfig
from marigold_rec.config.components import Features
from marigold_rec.config.data import DataConfig
from marigold_rec.config.features import DenseSettings, SparseFeature
from marigold_rec.config.life_cycle import LifeCycleConfig
from marigold_rec.config.models import ModelConfig
from marigold_rec.config.names import RUN_NAME_PATTERN
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.config.section import Section
from marigold_rec.config.tables import Table, resolve_tables
from marigold_rec.config.tasks import Task


class RunConfig(Section):
    name: str = Field(default="default", pattern=RUN_NAME_PATTERN)
    dir: str = "runs"
    """Parent folder; the run writes only below dir/name."""
    seed: int = Field(default=7, ge=0, lt=2**31)
    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    """Stop after this many steps; null: no limit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the dense part in training. bf16: under autocast; losses, heads, probes, parameters and
    tables stay in float32."""


class SparseOptimizerConfig(Section):
    name: Literal["rowwise_adagrad"] = "rowwise_adagrad"
    lr: float = Field(default=0.05, gt=0)
    eps: float = Field(default=1e-8, gt=0)


class DenseOptimizerConfig(Section):
    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    """Linear warm-up from lr/n to lr."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest global norm of the dense gradients; null: no clipping."""


class OptimizerConfig(Section):
    sparse: SparseOptimizerConfig = SparseOptimizerConfig()
    dense: DenseOptimizerConfig = DenseOptimizerConfig()


ShardingType = Literal["auto", "table_wise", "row_wise", "column_wise"]


class ShardingConfig(Section):
    default: ShardingType = "auto"
    """auto: the planner chooses."""
    tables: dict[str, ShardingType] = Field(default_factory=dict)
    """Table -> type."""
    hbm_gib: float = Field(default=32.0, gt=0)
    """Accelerator memory per rank, for the planner."""
    host_gib: float = Field(default=64.0, gt=0)
    """Host memory per rank, for the planner."""


class CheckpointConfig(Section):
    every_n_steps: int | None = Field(default=None, ge=1)
    """null: only at the end and on stop."""
    keep: int = Field(default=2, ge=1)
    """The last so many stay."""
    keep_every_n_hours: float | None = Field(default=None, gt=0)
    """Beside them one of every so many hours stays, by when it was saved; null: none."""
    keep_best_by: str | None = None
    """Beside them the best stays, by its newest train/window_* figure: window_auc/ctr, say. One
    that was saved before the window was full has none; null: none."""
    mirror: str | None = Field(default=None, min_length=1)
    """A folder or fsspec URL (s3://bucket/runs) that gets a copy of each checkpoint, as
    <mirror>/<run.name>/step-...; --resume auto looks there too; null: none."""
    mirror_patience_s: float = Field(default=1800, gt=0)
    """How long the end of a run waits for the last copy."""
    asynchronous: bool = True
    """Training waits only until the state is copied to host memory, which holds one more copy of it
    then; false: until it is on the disk."""
    max_failed_saves: int = Field(default=3, ge=0)
    """Saves in a row that may fail, a full disk say, before the run ends; the last save of a run
    may never."""


class WarmStartConfig(Section):
    """A new run that begins with the model of an older one, perhaps under a changed config."""

    path: str | None = None
    """A run's folder, or one of its step-... folders; null: none."""
    new: tuple[str, ...] = ()
    """What may begin anew where the checkpoint has nothing that fits: tables.<name>,
    network.<parameter> or the beginning of such a name."""
    optimizer: bool = True
    """Carry the optimizers' state over, where the values are."""


class NumericsConfig(Section):
    """What happens where numbers are not finite. It is decided before a step's backward."""

    on_non_finite: Literal["stop", "skip_batch"] = "stop"
    """A step whose losses or task weights are not finite. skip_batch: it changes nothing, and its
    rows are passed over, counted and logged."""
    max_skipped_batches: int = Field(default=10, ge=0)
    """Per start of the run; the next one stops it."""
    check_tables_every_n_steps: int | None = Field(default=None, ge=1)
    """Look at some 4,096 rows of each table shard, others each time, at the first logging step
    after so many steps; null: only where losses or checkpoints show it."""


class LoggingConfig(Section):
    every_n_steps: int = Field(default=50, ge=1)
    window_rows: int | None = Field(default=20_000, ge=1)
    """Newest training rows of all ranks, in whole batches, whose train/window_* figures are logged;
    null: none."""
    tensorboard: bool = True


class EvaluationConfig(Section):
    """What launch/evaluate.py reports. Columns that the data lacks give no figures, and
    a warning unless they are the defaults."""

    user: str | None = "user_id"
    """Column: intervals and GAUC take a user's rows together."""
    item: str | None = "item_id"
    """Column: slices by how often training saw the item."""
    group: str | None = None
    """Column: a slate, within which NDCG and MRR rank."""
    ndcg_at: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10)
    slices: tuple[str, ...] = ()
    """Columns; numbers of many values are cut into ten equal parts."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Of all intervals."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Beyond it the judging of the scored rows goes on in files within --out, with the same
    figures; null: half of what the machine, or its cgroup, has left."""


class DistributedConfig(Section):
    timeout_s: int = Field(default=600, ge=1)
    """Collectives give up after this long: while a run begins, and in evaluation."""
    step_timeout_s: int = Field(default=120, ge=1)
    """The same between steps, once the first is taken, so that a rank that hangs ends the others
    soon; longer than a rank may wait for its data. At most timeout_s counts."""
    threads_per_rank: int | None = Field(default=None, ge=1, le=1024)
    """Intra-op threads on CPU; null: cores / ranks on this machine."""


class Config(Section):
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    features: Features
    tasks: tuple[Task, ...]
    model: ModelConfig = Field(default_factory=ModelConfig)
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

    @model_validator(mode="after")
    def _funnel(self) -> Config:
        """A task that is given another is observed where that one's label is 1."""
        labels = {task.name: task.label for task in self.tasks}
        tasks = tuple(
            task.model_copy(update={"observed_if": labels[task.given]})
            if task.given in labels and task.observed_if is None
            else task
            for task in self.tasks
        )
        object.__setattr__(self, "tasks", tasks)  # frozen for all but its own validation
        return self

    def with_only_task(self, name: str) -> Config:
        """The same config with one task; it is observed on the same rows, given no other, and
        reads the same features."""
        [task] = [task for task in self.tasks if task.name == name]
        features = tuple(
            feature
            if feature.tasks is None
            else feature.model_copy(update={"tasks": None if name in feature.tasks else ()})
            for feature in self.features
        )
        only = {"tasks": (task.model_copy(update={"given": None}),), "features": features}
        return self.model_copy(update=only)

    @property
    def sequence_features(self) -> dict[str, str]:
        """Sequence -> the feature that is read unpooled for it."""
        return {name: s.feature or name for name, s in self.model.sequences.items()}

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The embedding tables that the features define. Raises ValueError: see resolve_tables."""
        return resolve_tables(self.sparse_features, self.sequence_features.values())

    @property
    def sparse_features(self) -> tuple[SparseFeature, ...]:
        return tuple(f for f in self.features if isinstance(f, SparseFeature))

    @property
    def dense_features(self) -> tuple[DenseSettings, ...]:
        return tuple(f for f in self.features if isinstance(f, DenseSettings))

    @property
    def restricted_readers(self) -> dict[str, frozenset[str]]:
        """Feature or sequence -> its tasks, where they are not all.

        A sequence is read by those that may read its list and everything that it attends with.
        """
        every = frozenset(self.task_names)
        readers = {f.name: every if f.tasks is None else frozenset(f.tasks) for f in self.features}
        for name, settings in self.model.sequences.items():
            read = [settings.feature or name, *settings.query]
            readers[name] = every.intersection(*(readers[feature] for feature in read))
        return {name: tasks for name, tasks in readers.items() if tasks < every}

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tasks)
