"""Turns the flights data set into lines, one record each: its number, a tab, and a row as JSON.

`flights_rows.py PARQUET LINES`. The same file always gives the same lines, in the file's order.
"""

import json
import sys

import pyarrow.parquet


def lines(table, first):
    names = [json.dumps(name) for name in table.column_names]
    columns = [column.to_pylist() for column in table.columns]
    for number, row in enumerate(zip(*columns), first):
        fields = ",".join(f"{name}:{json.dumps(value)}" for name, value in zip(names, row))
        yield f"{number}\t{{{fields}}}\n"


def main(parquet, path):
    source = pyarrow.parquet.ParquetFile(parquet)
    first = 0
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        # A part at a time: Python's objects take many times the room of the columns.
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            out.writelines(lines(table, first))
            first += table.num_rows


if __name__ == "__main__":
    main(*sys.argv[1:])
