"""Parquet files of a few kilobytes that would take gigabytes, and encrypted ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe


def list_bomb(path: Path, table: pa.Table, column: str, values: int = 17 << 20) -> Path:
    """The first row of `column` becomes a list of so many zeros; the other rows' are empty."""
    ends = np.full(table.num_rows + 1, values, np.int32)
    ends[0] = 0
    zeros = pa.array(np.zeros(values, np.int8))  # in Parquet as small as those of 64 bits
    return _written(path, table, column, pa.ListArray.from_arrays(ends, zeros))


def text_bomb(path: Path, table: pa.Table, column: str, mib: int = 200) -> Path:
    """Every row of `column` is the same text: in the file once, in memory `mib` MiB."""
    text = "x" * (mib * 1024**2 // table.num_rows)
    indices = pa.array(np.zeros(table.num_rows, np.int32))
    return _written(path, table, column, pa.DictionaryArray.from_arrays(indices, pa.array([text])))


def text_list_bomb(path: Path, table: pa.Table, column: str, mib: int = 200) -> Path:
    """As `text_bomb`, in lists of one text."""
    text = "x" * (mib * 1024**2 // table.num_rows)
    indices = pa.array(np.zeros(table.num_rows, np.int32))
    texts = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    ends = pa.array(np.arange(table.num_rows + 1, dtype=np.int32))
    return _written(path, table, column, pa.ListArray.from_arrays(ends, texts))


def row_bomb(path: Path, rows: int = 17 << 20) -> Path:
    """So many rows of a zero."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zeros = pa.array(np.zeros(rows, np.int8))
    pq.write_table(pa.table({"x": zeros}), path, row_group_size=rows, compression="zstd")
    return path


def _written(path: Path, table: pa.Table, column: str, values: pa.Array) -> Path:
    table = table.set_column(table.schema.get_field_index(column), column, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", store_schema=False)
    return path


class _Kms(pe.KmsClient):
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key)


def encrypted(path: Path, table: pa.Table, column: str, *, plaintext_footer: bool) -> Path:
    """With `column` encrypted; and the footer, or not."""
    factory = pe.CryptoFactory(lambda config: _Kms())
    keys = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": [column]}, plaintext_footer=plaintext_footer
    )
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return path
