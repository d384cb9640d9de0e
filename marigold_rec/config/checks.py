"""Checks that span sections of the config; each returns one line per problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from marigold_rec.config.balancers import MarigoldBalancerConfig, StaticBalancerConfig
from marigold_rec.config.components import HEADS, component_class, component_name
from marigold_rec.config.due import event_time_of
from marigold_rec.config.gate_names import gate_problems
from marigold_rec.config.label_kinds import LABEL_KINDS, has_classes
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.config.window_figures import window_figure, window_metrics


def cross_field_problems(config: Config) -> list[str]:
    return [
        *_duplicates("features", (f.name for f in config.features)),
        *_duplicates("tasks", (t.name for t in config.tasks)),
        *([] if config.tasks else ["tasks: there is no task; add one"]),
        *_tables(config),
        *_parts(config),
        *_leaks(config),
        *_twin_tasks(config),
        *_observed_by_themselves(config),
        *_funnel(config),
        *_heads(config),
        *_sequences(config),
        *_readers(config),
        *_maturing(config),
        *_balancer(config),
        *_dates(config),
        *_best_by(config),
        *_life_cycle(config),
        *gate_problems(
            config.nightly.gate,
            config.tasks,
            config.features,
            config.evaluation.group,
            config.evaluation.ndcg_at,
        ),
    ]


def _duplicates(section: str, names: Iterable[str]) -> list[str]:
    return [
        f"{section}: the name {name!r} is used {count} times; names must be unique"
        for name, count in Counter(names).items()
        if count > 1
    ]


def _tables(config: Config) -> list[str]:
    if len({f.name for f in config.features}) < len(config.features):
        return []  # their tables would seem to contradict each other
    if not config.sparse_features:
        return ["features: there is no sparse feature (hash or vocab, say); add one"]
    try:
        known = [table.name for table in config.tables]
    except ValueError as error:
        return [f"features: {line}" for line in str(error).splitlines()]
    return [
        f"sharding.tables.{name}: no feature has this table; {did_you_mean(name, known)}"
        for name in config.sharding.tables
        if name not in known
    ]


def _parts(config: Config) -> list[str]:
    return [f"features.{f.name}.{line}" for f in config.features for line in f.part_problems()]


def _life_cycle(config: Config) -> list[str]:
    kinds = {feature.table_name: feature.kind for feature in config.sparse_features}
    return [
        f"life_cycle.tables.{name}: no feature has this table; {did_you_mean(name, kinds)}"
        if name not in kinds
        else f"life_cycle.tables.{name}: its ids are of kind {kinds[name]}, whose rows have a "
        "meaning of their own; only tables of kind hash have a life cycle: remove it here"
        for name in config.life_cycle.tables
        if kinds.get(name) != "hash"
    ]


def _leaks(config: Config) -> list[str]:
    """A label, or what decides whether it is observed, must never be an input."""
    outcomes: dict[str | None, str] = {}
    for task in config.tasks:
        outcomes.setdefault(task.label, task.name)
    for task in config.tasks:
        outcomes.setdefault(task.observed_if, task.name)
        outcomes.setdefault(event_time_of(task), task.name)
    outcomes.pop(None, None)
    return [
        f"features.{feature.name}: its column {column!r} is an outcome of task "
        f"{outcomes[column]!r}; the model would see the answer; remove the feature"
        for feature in config.features
        for column in feature.columns
        if column in outcomes
    ]


def _twin_tasks(config: Config) -> list[str]:
    first: dict[tuple[object, ...], str] = {}
    problems = []
    for task in config.tasks:
        # Conversions within a day and within a week are two labels of one column.
        window = None if event_time_of(task) is None else (event_time_of(task), task.matures_h)
        wiring = (task.kind, task.label, task.observed_if, window)
        if wiring in first:
            problems.append(
                f"tasks.{task.name}: has the same kind, label and observed_if as task "
                f"{first[wiring]!r}; point one of them at its own label"
            )
        first.setdefault(wiring, task.name)
    return problems


def _observed_by_themselves(config: Config) -> list[str]:
    return [
        f"tasks.{task.name}.observed_if: is the label {task.label!r} itself: only ones would be "
        "observed; name another column, or leave it out"
        for task in config.tasks
        if task.observed_if == task.label
    ]


def _funnel(config: Config) -> list[str]:
    """`given` names an earlier task of a yes/no label, and no task is given itself in a circle."""
    earlier: dict[str, str] = {}
    problems = []
    for task in config.tasks:
        if task.given is not None and task.given not in earlier:
            problems.append(
                f"tasks.{task.name}.given: must name an earlier task of this list, found "
                f"{task.given!r}; {did_you_mean(task.given, earlier)}"
            )
        elif task.given is not None and not has_classes(earlier[task.given]):
            problems.append(
                f"tasks.{task.name}.given: task {task.given!r} is of kind {earlier[task.given]}; "
                f"name one of kind {' or '.join(filter(has_classes, LABEL_KINDS))}"
            )
        elif task.given is not None:
            label = next(t.label for t in config.tasks if t.name == task.given)
            if task.observed_if != label:
                problems.append(
                    f"tasks.{task.name}: has given: {task.given}, whose label is {label!r}, and "
                    f"observed_if: {task.observed_if}; remove observed_if"
                )
        earlier[task.name] = task.kind
    return problems


def _heads(config: Config) -> list[str]:
    """A head predicts labels of its kinds only."""
    problems = []
    for task in config.tasks:
        name = component_name(task.head)
        kinds = {head: component_class(HEADS, head).kinds for head in HEADS}
        if task.kind not in kinds[name]:
            fitting = [head for head, of in kinds.items() if task.kind in of]
            problems.append(
                f"tasks.{task.name}.head.name: {name} predicts labels of kind "
                f"{' or '.join(kinds[name])}, and its label is {task.kind}; choose one of "
                f"{', '.join(fitting)}"
            )
    return problems


def _sequences(config: Config) -> list[str]:
    sparse = {feature.name: feature for feature in config.sparse_features}
    problems = []
    for name, feature in config.sequence_features.items():
        if feature not in sparse:
            problems.append(
                f"model.sequences.{name}: there is no sparse feature {feature!r}; "
                f"{did_you_mean(feature, sparse)}"
            )
        if name in sparse and name != feature:
            problems.append(f"model.sequences.{name}: a feature has this name; choose another")
    read = list(config.sequence_features.values())
    problems += [
        f"model.sequences: {feature!r} is read by {read.count(feature)} sequences; by one at most"
        for feature in dict.fromkeys(read)
        if read.count(feature) > 1
    ]
    for name, settings in config.model.sequences.items():
        problems += [
            f"model.sequences.{name}.query: {query!r} is no feature with a pooled embedding; "
            f"{did_you_mean(query, [f for f in sparse if f not in read])}"
            for query in settings.query
            if query not in sparse or query in read
        ]
    return problems


def _readers(config: Config) -> list[str]:
    known = config.task_names
    problems = [
        f"features.{feature.name}.tasks: there is no task {task!r}; {did_you_mean(task, known)}"
        for feature in config.features
        for task in feature.tasks or ()
        if task not in known
    ]
    return problems or [
        f"tasks.{task}: it reads no feature; add it to some feature's `tasks`, or leave them null"
        for task in known
        if all(f.tasks is not None and task not in f.tasks for f in config.features)
    ]


def _maturing(config: Config) -> list[str]:
    data = config.data
    splits = {"train": data.train, "eval": data.eval}
    users = [f"data.{name}.due" for name, split in splits.items() if split and split.due]
    with_event = [task for task in config.tasks if event_time_of(task) is not None]
    users += [f"tasks.{task.name}.event_time" for task in with_event]
    problems = [
        f"tasks.{task.name}.event_time: matures_h is 0, so that no later event would count; set it "
        "to the hours that an event may come after its row"
        for task in with_event
        if task.matures_h == 0
    ]
    if users and data.time is None:
        problems.append(
            f"data.time: missing; {' and '.join(users)} count from the rows' event times: name the "
            "column that holds them"
        )
    return problems


def _balancer(config: Config) -> list[str]:
    balancer, names = config.balancer, config.task_names
    named: list[tuple[str, str]] = []
    problems = []
    if isinstance(balancer, StaticBalancerConfig):
        named = [(f"weights.{name}", name) for name in balancer.weights]
        if names and max(balancer.weights.get(name, 1.0) for name in names) == 0:
            problems.append("balancer.weights: every task weighs 0; give one a positive weight")
    elif isinstance(balancer, MarigoldBalancerConfig):
        named = [(f"preference.{name}", name) for name in balancer.preference]
        if balancer.primary is not None:
            named.append(("primary.task", balancer.primary.task))
        if balancer.probe.rows < 1 and config.model.dropout > 0:
            problems.append(
                f"balancer.probe.rows: a probe of part of the rows can't repeat the dropout masks "
                f"of the step (model.dropout is {config.model.dropout:g}); set one of them to "
                "probe.rows: 1 or dropout: 0"
            )
    unknown = [
        f"balancer.{key}: there is no such task; {did_you_mean(name, names)}"
        for key, name in named
        if name not in names
    ]
    return unknown + problems


def _dates(config: Config) -> list[str]:
    """Evaluation must come after training: a shared day is leakage, a swapped pair a mistake."""
    data = config.data
    if data.eval is None:
        return []
    if data.train.due is not None and data.eval.due is not None:
        # Of a row whose click was learned the conversion may be judged: it is due later.
        if data.train.due[1] <= data.eval.due[0]:
            return []
        return [
            f"data.eval.due: begins at {data.eval.due[0].isoformat()}, but data.train.due runs to "
            f"{data.train.due[1].isoformat()}; evaluation must begin where training ends, or later"
        ]
    if data.train.dates is not None and data.eval.dates is not None:
        if data.train.dates[1] < data.eval.dates[0]:
            return []
        return [
            f"data.eval.dates: evaluation starts on {data.eval.dates[0]}, but training runs to "
            f"{data.train.dates[1]}; evaluation must start after the last training day"
        ]
    if (data.train.path or data.path) != (data.eval.path or data.path):
        return []
    return [
        f"data.{name}.dates: missing, and both splits have the same path: the evaluation rows "
        "would be trained on; give both splits their days, or data.eval.path another folder"
        for name, split in (("train", data.train), ("eval", data.eval))
        if split.dates is None
    ]


def _best_by(config: Config) -> list[str]:
    name = config.checkpoint.keep_best_by
    known = [
        window_figure(m, task.name) for task in config.tasks for m in window_metrics(task.kind)
    ]
    if name is None:
        return []
    if name not in known:
        return [
            f"checkpoint.keep_best_by: there is no figure {name!r}; {did_you_mean(name, known)}"
        ]
    if config.logging.window_rows is None:
        return [
            f"checkpoint.keep_best_by: {name} is a figure of the window, and "
            "logging.window_rows is null; set one of them"
        ]
    return []
