"""Parquet logs as other programs write them: names of files, links, tables of other formats."""
