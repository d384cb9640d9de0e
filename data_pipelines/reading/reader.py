"""Streams one rank's rows of a split as batches, decoded and transformed in background threads."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.labels.columns import LabelColumns, Tally
from data_pipelines.labels.limit import LabelLimit, named_sources
from data_pipelines.order.partition import Block, RankOrder, rank_interval, require_one_step, steps
from data_pipelines.order.rest import plan_rest, rows_left
from data_pipelines.reading.blocks import BatchShape, DecodedBlock, Part, assemble
from data_pipelines.reading.prefetch import Prefetched
from data_pipelines.reading.row_groups import RowGroups
from marigold_rec.batch import Batch, Cursor
from marigold_rec.config.due import Due
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.errors import DataError
from marigold_rec.transforms.arrow_types import plain_type
from marigold_rec.transforms.columns import lone_array
from marigold_rec.transforms.feature_transforms import FeatureTransforms
from marigold_rec.transforms.row_bits import RowBits

_BATCHES_AHEAD = 8


@dataclass(frozen=True)
class _BlockCounts:
    """What is known of a block as a whole."""

    counts: Mapping[str, int]
    tallies: tuple[Tally, ...]
    sources: tuple[str, ...]
    ends_epoch: bool
    """It is the last block of an epoch that was read from its beginning."""


_Counted = tuple[Batch, tuple[_BlockCounts, ...]]
"""A batch, and the counts of the blocks of which it is the first batch."""


class BatchStream(Iterator[Batch]):
    """The batches of the rest of one epoch. Dropping it, or `close()`, ends its threads."""

    def __init__(
        self, prefetched: Prefetched[_Counted], counts: Counter[str], limit: LabelLimit
    ) -> None:
        self._prefetched = prefetched
        self._counts = counts
        self._limit = limit

    def __next__(self) -> Batch:
        # Counted here and not where it is decoded: in the order of the batches, and only what was
        # asked for, so that a refusal does not hang on how far the threads have read ahead.
        batch, blocks = next(self._prefetched)
        try:
            for block in blocks:
                self._counts.update(block.counts)
                self._limit.add(block.tallies, block.sources)
                if block.ends_epoch:
                    self._limit.judge()
        except DataError:
            self.close()
            raise
        return batch

    def close(self) -> None:
        self._prefetched.close()


class ParquetReader:
    """Reads rank `rank`'s part of a split.

    Memory: about `data.reader_threads` + 2 blocks of at most 1.5 `shuffle_rows` rows, and one
    decoded row group per thread, and the kept footers (some 100 MiB at most, or one file's).
    """

    def __init__(
        self,
        catalog: Catalog,
        config: Config,
        *,
        rank: int,
        world_size: int,
        batch_size: int | None = None,
        shuffle_rows: int | None = None,
        extra_columns: Sequence[str] = (),
        seed: int | None = None,
        allow_short: bool = False,
        due: Due | None = None,
        admitted: Mapping[str, RowBits] | None = None,
    ) -> None:
        """`batch_size`, `shuffle_rows` and `seed` default to data.batch_size, data.shuffle_rows and
        run.seed. `due` is that of the split: only labels that are due in it are observed.
        `extra_columns` travel along in `Batch.columns`. `catalog` must have passed `check_data`.
        `admitted`: see FeatureTransforms. With `allow_short` (evaluation), fewer rows than one step
        takes are legal.

        Raises DataError: fewer rows than one step takes, or an extra column that is not there.
        """
        self._catalog = catalog
        self._rank = rank
        self._world_size = world_size
        self._batch_size = batch_size if batch_size is not None else config.data.batch_size
        self._seed = seed if seed is not None else config.run.seed
        self._threads = config.data.reader_threads
        self._shuffle_rows = shuffle_rows if shuffle_rows is not None else config.data.shuffle_rows
        if not allow_short:
            require_one_step(catalog.num_rows, world_size, self._batch_size)
        self._transforms = FeatureTransforms(config.features, config.tables, admitted)
        self._labels = LabelColumns.of(config, due)
        self._extra_columns = tuple(extra_columns)
        _require_columns(self._extra_columns, catalog)
        columns = [*self._transforms.columns, *self._labels.columns, *self._extra_columns]
        self._row_groups = RowGroups(
            catalog,
            tuple(dict.fromkeys(columns)),
            verify_checksums=config.data.verify_checksums,
            keep=self._threads,
        )
        self._shape = BatchShape(
            self._batch_size,
            tuple(feature.name for feature in config.sparse_features),
            frozenset(f for t in config.tables if t.is_unpooled for f in t.features),
            len(config.dense_features),
            len(config.tasks),
            {name: plain_type(catalog.schema.field(name).type) for name in self._extra_columns},
        )
        self._counts: Counter[str] = Counter()
        self._limit = LabelLimit(config.data.max_invalid_labels)

    @property
    def batch_size(self) -> int:
        """Rows of every batch, filling included."""
        return self._batch_size

    @property
    def fingerprint(self) -> str:
        """Of the files that are read; see Catalog."""
        return self._catalog.fingerprint

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return steps(self._catalog.num_rows, self._world_size, self._batch_size)

    def steps_left(self, start: Cursor) -> int:
        """Batches of the rest of the epoch from `start` on: what `batches(start)` gives.

        The same on every rank, where the ranks stand at the same step.
        """
        return len(self._nominal_positions(start.rows, self._plan(start)))

    @property
    def num_rows(self) -> int:
        """Rows of this rank, per epoch."""
        start, stop = rank_interval(self._catalog.num_rows, self._rank, self._world_size)
        return stop - start

    @property
    def counts(self) -> dict[str, int]:
        """What was dropped, replaced or masked since this reader was made: `<what>/<name>`.

        By whole blocks: a block counts once its first batch is taken, and counts again when a
        resume begins inside it.
        """
        return dict(self._counts)

    def batches(self, start: Cursor = Cursor(0, 0)) -> BatchStream:  # noqa: B008
        """The rest of epoch `start.epoch` after `start.rows` rows, as batches of `batch_size`.

        Every rank gets the same number of batches: the last ones are filled with empty rows, and
        may hold nothing else. A batch's cursor is the position after its rows; for a batch of
        filling alone, that of a full batch (so that equal steps stay equal after a resume).
        The stream raises DataError at the first batch whose rows cannot be read or are refused.

        Too many invalid labels are refused by the counts of this reader so far: once
        LABELS_TO_JUDGE labels of the task are counted, or all of an epoch. (The rest of an epoch,
        after a resume, may be few labels: it is judged only with so many.)
        """
        num_rows = rows_left(self._catalog.num_rows, start.legs)
        limit = steps(num_rows, self._world_size, self._batch_size) * self._batch_size
        if not 0 <= start.rows <= limit:
            raise DataError(
                f"the run stands at row {start.rows:,} of rank {self._rank}'s part of the data, "
                f"which has only {limit:,}: the data changed since; start a new run or put the "
                "same files back"
            )
        items = Prefetched(self._generate(start), _BATCHES_AHEAD, "marigold-batches")
        return BatchStream(items, self._counts, self._limit)

    def _plan(self, start: Cursor) -> RankOrder:
        return plan_rest(
            self._catalog.rows_per_group,
            start.legs,
            seed=self._seed,
            epoch=start.epoch,
            world_size=self._world_size,
            rank=self._rank,
            shuffle_rows=self._shuffle_rows,
        )

    def _generate(self, start: Cursor) -> Generator[_Counted, None, None]:
        order = self._plan(start)
        is_whole = start.rows == 0 and not start.legs
        position = min(start.rows, order.num_rows)
        first_block = order.block_at(position)
        blocks = self._decoded_blocks(order, first_block)
        rest: Part | None = None
        skip = position - order.blocks[first_block].first_row if position < order.num_rows else 0
        try:
            for nominal in self._nominal_positions(start.rows, order):
                parts: list[Part] = []
                begun: list[_BlockCounts] = []
                wanted = min(self._batch_size, order.num_rows - position)
                while wanted:
                    if rest is None:
                        block = next(blocks)
                        is_last = position + block.num_rows - skip == order.num_rows
                        begun.append(_counts_of(block, ends_epoch=is_last and is_whole))
                        rest = Part(block, skip, block.num_rows)
                        skip = 0
                    taken = min(wanted, rest.num_rows)
                    parts.append(Part(rest.block, rest.start, rest.start + taken))
                    rest = Part(rest.block, rest.start + taken, rest.stop)
                    rest = rest if rest.num_rows else None
                    wanted -= taken
                    position += taken
                cursor = Cursor(start.epoch, position if parts else nominal, start.legs)
                yield assemble(parts, self._shape, cursor), tuple(begun)
        finally:
            blocks.close()

    def _nominal_positions(self, start: int, order: RankOrder) -> range:
        """Where each batch yet to come ends, if every rank had the rows of the largest."""
        size = self._batch_size
        # Within the filling, positions count whole batches; else a start between batches (another
        # batch size before) must lose no row.
        begin = start if start < order.num_rows else -(-start // size) * size
        count = max(0, -(-(order.most_rows - begin) // size))
        return range(begin + size, begin + size * count + 1, size)

    def _decoded_blocks(self, order: RankOrder, first: int) -> Generator[DecodedBlock, None, None]:
        """Blocks from `first` on, in order, decoded ahead in threads; the look-ahead is bounded."""
        ahead: deque[Future[DecodedBlock]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="marigold-decode")
        try:
            for block in order.blocks[first:]:
                ahead.append(pool.submit(self._decode, order, block))
                if len(ahead) > self._threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, order: RankOrder, block: Block) -> DecodedBlock:
        sources = tuple(dict.fromkeys(self._row_groups.source(piece) for piece in block.pieces))
        table = pa.concat_tables([self._row_groups.read(piece) for piece in block.pieces])
        try:
            return self._transform(table, order.permutation(block), sources)
        except DataError as error:
            raise DataError(f"{error}; found in {named_sources(sources)}") from error
        except Exception as error:
            # Our own bug, or no memory: it keeps its type, and says which rows met it.
            error.add_note(f"while transforming the rows of {named_sources(sources)}")
            raise

    def _transform(
        self, table: pa.Table, permutation: np.ndarray | None, sources: tuple[str, ...]
    ) -> DecodedBlock:
        # One chunk per column: take() over many chunks is several times slower.
        table = table.combine_chunks()
        if permutation is not None:
            table = table.take(pa.array(permutation))
        return DecodedBlock(
            self._transforms(table),
            self._labels(table),
            {name: lone_array(table.column(name)) for name in self._extra_columns},
            sources,
        )


def _require_columns(columns: Sequence[str], catalog: Catalog) -> None:
    known = catalog.schema.names
    problems = [
        f"extra column {name!r} is not in {catalog.storage.url}; {did_you_mean(name, known)}"
        for name in columns
        if name not in known
    ]
    if problems:
        raise DataError(problems)


def _counts_of(block: DecodedBlock, *, ends_epoch: bool) -> _BlockCounts:
    return _BlockCounts(block.counts, block.labels.tallies, block.sources, ends_epoch)
