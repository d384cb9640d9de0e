"""Tables in each precision: sizes, rounding, FBGEMM's operator as the oracle, sums of bags."""

from __future__ import annotations

from pathlib import Path

import fbgemm_gpu  # noqa: F401 - the operators
import pytest
import torch
from torch import Tensor

from marigold_rec.errors import ConfigError
from marigold_rec.serving.artefact import Precision, TableEntry
from marigold_rec.serving.tables import Lookup, encode, open_table, pooled, stored_shape

QUANTIZE = torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized


def stored(folder: Path, weight_ND: Tensor, precision: Precision) -> Lookup:
    rows, dim = weight_ND.shape
    encode("t", weight_ND, precision, QUANTIZE).tofile(folder / "t.bin")
    return open_table(folder, TableEntry(rows=rows, dim=dim, dtype=precision, file="t.bin"))


@pytest.mark.parametrize("dim", [4, 8, 12, 16, 20, 32, 48, 64, 128])
def test_an_int8_row_takes_8_bytes_more_than_its_width(dim: int) -> None:
    assert stored_shape(10, dim, "int8") == (10, dim + 8)
    assert stored_shape(10, dim, "fp16") == (10, dim)


@pytest.mark.parametrize("dim", [4, 8, 16, 20, 48, 64])
@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_int8_is_fbgemms(tmp_path: Path, dim: int, rows: int) -> None:
    weight_ND = torch.randn(rows, dim) * torch.rand(rows, 1)
    ids_V = torch.randint(0, rows, (50,))
    found = stored(tmp_path, weight_ND, "int8").rows(ids_V)
    groups, width = stored_shape(rows, dim, "int8")
    file = torch.frombuffer(bytearray((tmp_path / "t.bin").read_bytes()), dtype=torch.uint8)
    decoded = torch.ops.fbgemm.Fused8BitRowwiseQuantizedToFloat(file.view(groups, width))
    torch.testing.assert_close(found, decoded.reshape(-1, dim)[ids_V], rtol=1e-6, atol=1e-6)
    # Half a step of the widest group, and float32's rounding.
    step = (weight_ND.max() - weight_ND.min()) / 255
    assert float((found - weight_ND[ids_V]).abs().max()) <= 0.501 * float(step) + 1e-6


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_are_the_values_rounded(tmp_path: Path, precision: Precision) -> None:
    weight_ND = torch.randn(30, 8)
    found = stored(tmp_path, weight_ND, precision).rows(torch.arange(30))
    expected = weight_ND if precision == "fp32" else weight_ND.half().float()
    assert torch.equal(found, expected)


def test_a_value_beyond_fp16_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"table 't' holds 70000, beyond fp16's 65504; use fp32"):
        encode("t", torch.full((2, 4), 7e4), "fp16", QUANTIZE)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("is_mean", [False, True])
def test_bags(tmp_path: Path, precision: Precision, is_mean: bool) -> None:
    """Also empty ones, at the ends and between others, and no ids at all."""
    table = stored(tmp_path, torch.randn(40, 8), precision)
    for lengths in ([0, 3, 0, 0, 1, 5, 0], [0, 0], [], [4]):
        ids_V = torch.randint(0, 40, (sum(lengths),))
        found = pooled(table, ids_V, torch.tensor(lengths, dtype=torch.int32), is_mean=is_mean)
        rows = torch.split(table.rows(ids_V), lengths) if lengths else ()
        bags = [r.mean(0) if is_mean and len(r) else r.sum(0) for r in rows]
        expected = torch.stack(bags) if bags else torch.empty(0, 8)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_row_is_the_same_in_every_batch(tmp_path: Path, precision: Precision) -> None:
    table = stored(tmp_path, torch.randn(40, 12), precision)
    ids_V = torch.randint(0, 40, (77,))
    whole = table.rows(ids_V)
    for i in range(len(ids_V)):
        assert torch.equal(table.rows(ids_V[i : i + 1])[0], whole[i])
