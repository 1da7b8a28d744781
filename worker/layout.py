"""How the rows of an input are read: its columns, and where its first row begins."""

from dataclasses import replace
from typing import Final

import pyarrow as pa

from shared.batch import BatchOptions, Layout
from shared.dialect import Dialect, check_columns, header_names
from shared.signature import Signature
from worker.csv_rows import csv_fields
from worker.cutter import cut_csv
from worker.parquet_rows import check_parquet_schema
from worker.source import Source, unreadable

# Characters of a column's name; what is longer would be repeated in messages, and is no name.
LONGEST_NAME: Final = 1000


def find_layout(batch: BatchOptions, source: Source, signature: Signature, max_row_bytes: int) -> tuple[Layout, int]:
    """How the rows of a text file are read, and where the first one begins.

    Raises:
        InvalidRequest: columns are missing, or there is no header that could be read.
    """
    dialect = replace(source.dialect, encoding="utf-8")
    features = tuple(feature.name for feature in signature.features)
    begin = 0 if source.packed else source.begin
    if source.format == "ndjson":
        # Every record has columns of its own; what a record lacks is that row's fault.
        include = batch.include
        if batch.include_all:
            raise unreadable(
                "bad_include", "include=all goes with CSV and Parquet; of NDJSON name the columns to repeat."
            )
        names = tuple(dict.fromkeys((*features, *([batch.key_column] if batch.key_column else []), *include)))
    else:
        line, stop = _first_row(source, dialect, begin, max_row_bytes)
        fields = next(filter(None, csv_fields(line, dialect)))
        if not dialect.header:
            source.limits.check_columns(fields)
            names = by_position(features, len(fields))
        elif max(map(len, fields)) > LONGEST_NAME:
            raise unreadable("bad_input", "The first row is no header; is this a CSV file, with a header?")
        else:
            source.limits.check_columns(fields)
            names, begin = tuple(header_names(line.lstrip("\r\n"), dialect)), stop
        include = names if batch.include_all else batch.include
        check_columns(names, signature, key=batch.key_column, include=include)
    layout = Layout(
        format=source.format,
        names=names,
        key=batch.key_column,
        include=include,
        dialect=dialect,
        unpacked=source.packed,
        tag=source.tag,
    )
    return layout, begin


def parquet_layout(batch: BatchOptions, source: Source, signature: Signature, schema: pa.Schema) -> Layout:
    """How the rows of a Parquet file are read.

    Raises:
        InvalidRequest: columns are missing, or of a type that the model does not take.
    """
    names = tuple(schema.names)
    source.limits.check_columns(names)
    include = names if batch.include_all else batch.include
    check_columns(names, signature, key=batch.key_column, include=include)
    check_parquet_schema(schema, signature)
    return Layout(
        format="parquet", names=names, key=batch.key_column, include=include, dialect=source.dialect, tag=source.tag
    )


def _first_row(source: Source, dialect: Dialect, begin: int, max_row_bytes: int) -> tuple[str, int]:
    """The first row of a CSV file, and where the next one begins."""
    blocks = source.blocks(begin)
    first = next(cut_csv(blocks, dialect, slice_bytes=1, max_row_bytes=max_row_bytes, start=begin), None)
    if first is None or first.slice.rows == 0:
        raise unreadable("bad_input", "The file has no rows, and no header.")
    if first.slice.fault is not None:
        raise unreadable("bad_input", f"The first row cannot be read ({first.slice.fault}); is this a CSV file?")
    try:
        return bytes(first.data).decode(), first.slice.stop
    except UnicodeDecodeError as error:
        raise unreadable("bad_encoding", "The first row is not UTF-8; send encoding=latin-1 or what it is.") from error


def by_position(features: tuple[str, ...], width: int) -> tuple[str, ...]:
    """Names for the columns of a file without header: the features first, in the order of the signature.

    Raises:
        InvalidRequest: the file has fewer columns than the model has features.
    """
    if width < len(features):
        raise unreadable(
            "bad_input",
            f"The file has {width} columns and no header, but the model takes {len(features)}: "
            f"{', '.join(features[:20])}.",
        )
    return (*features, *(f"column_{number}" for number in range(len(features) + 1, width + 1)))
