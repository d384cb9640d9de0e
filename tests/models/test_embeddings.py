"""Pooled embeddings: canonical order, pooling, initialisation, tracing, sharding."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.types import ModuleSharder, ShardingEnv
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table
from marigold_rec.inputs import InputLayout, Inputs, slots_of
from models import build_embeddings
from models.embeddings import CanonicalOrder, Embeddings
from tests.support.ranks import run_ranks

FEATURES = [
    {"name": "user", "kind": "hash", "rows": 40, "dim": 8},
    {"name": "item", "kind": "hash", "rows": 30, "dim": 4, "table": "goods"},
    {"name": "hour", "kind": "id", "rows": 24, "dim": 8},
    {"name": "age", "kind": "dense"},
    {"name": "history", "kind": "hash", "table": "goods"},
    {"name": "recent", "kind": "hash", "rows": 16, "dim": 16, "pooling": "mean"},
]
NAMES = ["user", "item", "hour", "history", "recent"]
DIMS = [8, 4, 8, 4, 16]


def config(*sequences: str) -> Config:
    """`sequences`: features that reach the network unpooled."""
    return Config.model_validate(
        {
            "features": FEATURES,
            "tasks": [{"name": "ctr", "kind": "binary", "label": "click"}],
            "model": {"sequences": {name: {"name": "mean"} for name in sequences}},
        }
    )


def ids() -> KeyedJaggedTensor:
    """Three rows; lists of 0, 1 and more ids."""
    lengths = torch.tensor([1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 3, 1, 2, 0, 2])
    values = torch.tensor([3, 9, 3, 5, 6, 1, 2, 23, 5, 5, 7, 0, 15, 2, 4, 4])
    return KeyedJaggedTensor(keys=NAMES, values=values, lengths=lengths)


def looked_up(
    embeddings: nn.Module, sparse: KeyedJaggedTensor, unpooled: KeyedJaggedTensor | None = None
) -> Inputs:
    return embeddings(sparse, unpooled, torch.zeros(3, 1))


def by_hand(tables: Mapping[str, Tensor | nn.Module], kjt: KeyedJaggedTensor) -> Tensor:
    columns = []
    for name in NAMES:
        weight_NW = tables["goods" if name in ("item", "history") else name]
        assert isinstance(weight_NW, Tensor)
        rows = []
        for bag in kjt[name].to_dense():
            total = weight_NW[bag.long()].sum(0)
            rows.append(total / max(len(bag), 1) if name == "recent" else total)
        columns.append(torch.stack(rows))
    return torch.cat(columns, dim=1)


def test_output_is_each_features_pooled_rows_in_config_order() -> None:
    embeddings = build_embeddings(config(), "cpu")
    assert embeddings.ec is None
    assert embeddings.ebc is not None
    assert embeddings.width == sum(DIMS)
    tables = {name: bag.weight for name, bag in embeddings.ebc.embedding_bags.items()}
    assert list(tables) == ["user", "goods", "hour", "recent"]
    found = looked_up(embeddings, ids()).pooled_BR
    torch.testing.assert_close(found, by_hand(tables, ids()), rtol=0, atol=1e-7)


def test_a_table_of_a_sequence_is_looked_up_unpooled_by_all_its_features() -> None:
    """goods is read by item (pooled) and history (a sequence): one table, in one module."""
    embeddings = build_embeddings(config("history"), "cpu")
    assert embeddings.ebc is not None
    assert embeddings.ec is not None
    weights = {name: bag.weight for name, bag in embeddings.ebc.embedding_bags.items()}
    weights |= {name: table.weight for name, table in embeddings.ec.embeddings.items()}
    assert list(embeddings.ec.embeddings) == ["goods"]
    pooled, unpooled = ids(), ids()
    own = [name for name in NAMES if name not in ("item", "history")]
    found = looked_up(embeddings, _only(pooled, own), _only(unpooled, ["item", "history"]))
    whole = by_hand(weights, ids())
    history = slice(sum(DIMS[:3]), sum(DIMS[:4]))
    rest = torch.cat([whole[:, : history.start], whole[:, history.stop :]], dim=1)
    torch.testing.assert_close(found.pooled_BR, rest, rtol=0, atol=1e-7)
    sequence = found.sequences["history"]
    torch.testing.assert_close(sequence.sum(), whole[:, history], rtol=0, atol=1e-7)
    goods = weights["goods"]
    assert isinstance(goods, Tensor)
    bags = [goods[bag.long()] for bag in ids()["history"].to_dense()]
    assert torch.equal(sequence.values_NW, torch.cat(bags))
    assert sequence.lengths_B.tolist() == [len(bag) for bag in bags]


def _only(kjt: KeyedJaggedTensor, names: list[str]) -> KeyedJaggedTensor:
    return kjt.permute([NAMES.index(name) for name in names])


@pytest.mark.parametrize("seed", range(6))
def test_order_does_not_depend_on_the_order_of_the_keys(seed: int) -> None:
    torch.manual_seed(seed)
    pieces = {name: torch.randn(5, dim) for name, dim in zip(NAMES, DIMS, strict=True)}
    order = [NAMES[i] for i in torch.randperm(len(NAMES)).tolist()]
    pooled = KeyedTensor(
        keys=order,
        length_per_key=[pieces[name].shape[1] for name in order],
        values=torch.cat([pieces[name] for name in order], dim=1),
    )
    expected = torch.cat([pieces[name] for name in NAMES], dim=1)
    assert torch.equal(CanonicalOrder(NAMES)(pooled, ids()), expected)


def test_one_module_serves_layouts_that_change() -> None:
    regroup = CanonicalOrder(["a", "b", "c"])
    values_BR = torch.arange(12.0).view(2, 6)
    first = regroup(KeyedTensor(["a", "b", "c"], [1, 2, 3], values_BR), ids())
    second = regroup(KeyedTensor(["c", "a", "b"], [3, 1, 2], values_BR.roll(3, dims=1)), ids())
    assert torch.equal(first, second)
    assert first.data_ptr() == values_BR.data_ptr()  # canonical already: not copied
    assert not regroup.state_dict()


@pytest.mark.parametrize("keys", [["a", "b"], ["a", "b", "x"], ["a", "b", "b"]])
def test_other_keys_are_refused(keys: list[str]) -> None:
    pooled = KeyedTensor(keys, [1] * len(keys), torch.zeros(2, len(keys)))
    with pytest.raises(KeyError, match="are not the features"):
        CanonicalOrder(["a", "b", "c"])(pooled, ids())


def _layout(feature: str) -> InputLayout:
    return InputLayout(pooled=slots_of([(feature, 2)]), dense=())


def test_features_that_no_table_reads_are_refused() -> None:
    with pytest.raises(ValueError, match="are not those that the tables read"):
        Embeddings((), _layout("user"))
    with pytest.raises(ValueError, match="must be unique"):
        CanonicalOrder(["a", "a"])


@pytest.mark.parametrize("name", ["items", "type", "keys", "values", "training", "half"])
def test_table_names_that_torchrec_cannot_hold_are_refused(name: str) -> None:
    table = Table(name=name, rows=3, dim=2, pooling="sum", features=("f",), ids_per_row=(1.0,))
    with pytest.raises(ValueError, match=f"table: {name}_table"):
        Embeddings([table], _layout("f"))


def test_tables_start_small_and_repeat_with_the_seed() -> None:
    torch.manual_seed(3)
    one = build_embeddings(config(), "cpu").state_dict()
    torch.manual_seed(3)
    two = build_embeddings(config(), "cpu").state_dict()
    assert sorted(one) == sorted(
        f"ebc.embedding_bags.{t}.weight" for t in ("user", "goods", "hour", "recent")
    )
    for name, weight_NW in one.items():
        assert torch.equal(weight_NW, two[name])
        bound = 0.25 / weight_NW.shape[1] ** 0.5
        assert weight_NW.abs().max() <= bound
        assert weight_NW.std() > bound / 2


def test_meta_takes_no_memory_and_can_be_copied() -> None:
    embeddings = build_embeddings(config())
    assert all(parameter.is_meta for parameter in embeddings.parameters())
    copy.deepcopy(embeddings)
    assert embeddings.ebc is not None
    pickle.loads(pickle.dumps(embeddings.ebc.embedding_bag_configs()))


def test_forward_traces_to_calls_of_leaf_modules() -> None:
    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return module_qualified_name in ("ebc", "ec", "assemble")

    for sequences, modules in (
        ((), ["ebc", "assemble"]),
        (("history",), ["ebc", "ec", "assemble"]),
    ):
        graph = Leaves().trace(build_embeddings(config(*sequences), "cpu"))
        assert [n.target for n in graph.nodes if n.op == "call_module"] == modules


def _pooled_on_ranks(sharding: dict[str, str]) -> tuple[Tensor, Tensor]:
    """z and d z.sum / d tables' effect: z before and after one fused update, on this rank."""
    embeddings = build_embeddings(config())
    apply_optimizer_in_backward(torch.optim.SGD, embeddings.parameters(), {"lr": 0.5})
    group = dist.group.WORLD
    assert group is not None
    constraints = {
        table: ParameterConstraints(
            sharding_types=[kind], compute_kernels=[EmbeddingComputeKernel.FUSED.value]
        )
        for table, kind in sharding.items()
    }
    sharders: list[ModuleSharder[nn.Module]] = [_AllShardings()]  # pyright: ignore
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=dist.get_world_size(), compute_device="cpu"),
        constraints=constraints,
    )
    plan = planner.collective_plan(embeddings, sharders, group)
    model = DistributedModelParallel(
        embeddings,
        env=ShardingEnv.from_process_group(group),
        device=torch.device("cpu"),
        plan=plan,
        sharders=sharders,
    )
    with torch.no_grad():
        for table, weight in model.state_dict().items():
            for shard in weight.local_shards():
                _fill_by_place(table, shard.tensor, shard.metadata.shard_offsets)
    before = looked_up(model, ids()).pooled_BR
    weights_R = torch.arange(before.shape[1], dtype=torch.float32)
    (before * weights_R).sum().backward()
    return before.detach(), looked_up(model, ids()).pooled_BR.detach()


def _fill_by_place(table: str, weight_NW: Tensor, offsets: list[int]) -> None:
    """Values that depend on the table and the place in the whole table only."""
    rows = torch.arange(weight_NW.shape[0]) + offsets[0]
    columns = torch.arange(weight_NW.shape[1]) + offsets[1]
    weight_NW.copy_((rows[:, None] * 31 + columns * 7 + len(table)) % 17 / 16)


class _AllShardings(EmbeddingBagCollectionSharder):
    def sharding_types(self, compute_device_type: str) -> list[str]:
        return ["table_wise", "row_wise", "column_wise"]


TABLES = ["user", "goods", "hour", "recent"]


@pytest.mark.parametrize(
    "kinds",
    [
        ["table_wise"] * 4,
        ["row_wise"] * 4,
        ["row_wise", "table_wise", "table_wise", "row_wise"],
        ["table_wise", "row_wise", "table_wise", "column_wise"],
    ],
    ids=lambda kinds: "-".join(kind[0] for kind in kinds),
)
def test_sharding_plans_give_one_representation(kinds: list[str]) -> None:
    expected_before, expected_after = run_ranks(
        _pooled_on_ranks, 1, dict.fromkeys(TABLES, "table_wise")
    )[0]
    results = run_ranks(_pooled_on_ranks, 2, dict(zip(TABLES, kinds, strict=True)))
    for before, after in results:
        # Bit for bit: every row-wise partial sum of these values is exact.
        assert torch.equal(before, expected_before)
        # Both ranks feed the same rows, and TorchRec averages over ranks: one rank's update.
        torch.testing.assert_close(after, expected_after, rtol=1e-5, atol=1e-5)
