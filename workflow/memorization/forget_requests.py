"""The requests of a federation as rows of details.csv, so that a figure's table says which way of forgetting `item` is.

One row per field of a `RequestSpec`: measure `request_<field>`; a text stands in `part` (its value is 1), a number in
`value`; replicate -1, step 0.
"""

from collections.abc import Sequence

import pandas as pd

from memorization import tidy
from memorization.backends.details import Details
from memorization.federated_specs import RequestSpec

PREFIX = "request_"
COLUMNS = ("backend", "run", "item")


def record(details: Details, requests: Sequence[RequestSpec]) -> None:
    """Add the rows of all requests, numbered from 0 as in the specification."""
    for item, request in enumerate(requests):
        for name, value in request.model_dump().items():
            text = value if isinstance(value, str) else ""
            number = 1.0 if isinstance(value, str) else float(value)
            details.add(PREFIX + name, text, number, step=0, epoch=0.0, item=item)


def read(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run and request of a figure's table: `COLUMNS` and the fields of `RequestSpec` under their names."""
    rows = tidy.rows(table, "details")
    rows = rows[rows["measure"].str.startswith(PREFIX)]
    fields = list(RequestSpec.model_fields)
    if not len(rows):
        return pd.DataFrame(columns=[*COLUMNS, *fields])
    value = rows["value"].astype(object).where(rows["part"] == "", rows["part"])
    rows = rows.assign(value=value, measure=rows["measure"].str.removeprefix(PREFIX))
    wide = rows.pivot(index=list(COLUMNS), columns="measure", values="value").reset_index()
    wide.columns.name = None
    numeric = [name for name in wide if name not in COLUMNS and not wide[name].map(type).eq(str).any()]
    return wide.astype(dict.fromkeys(numeric, float))
