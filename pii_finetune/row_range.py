"""Some rows of a table that stand together, and where in its file they begin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RowRange:
    """The `num_rows` rows after the first `first`; of a delimited text also where in it they begin."""

    first: int
    num_rows: int
    position: int = 0
    num_lines: int = 0
