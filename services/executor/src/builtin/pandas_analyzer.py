"""The program behind the tool pandas_analyzer: one table in, one small table out. Runs in the sandbox, which sets the
globals `arguments` and `workspace` and takes the global `result`.

Must never answer with numbers that are silently wrong: what is left out or inexact is said in `warnings`, and what
cannot be done is a ValueError whose message begins with the name of the argument.
"""

import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

FUNCTIONS = ("count", "sum", "mean", "median", "min", "max", "std", "var", "nunique", "first", "last")
NUMBERS_ONLY = ("sum", "mean", "median", "std", "var")
SOURCES = ("path", "csv", "records")
COMMON = {*SOURCES, "operation", "delimiter", "date_columns", "limit", "chart"}
DEFAULT_LIMIT, MOST_ROWS, MOST_PIVOT_COLUMNS = 100, 10_000, 200
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ","}
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"

warnings = []


def fault(field, message):
    """The one kind of error for bad arguments."""
    return ValueError(f"{field}: {message}")


# --- arguments ---------------------------------------------------------------------------------------------------


def names(field, default=None):
    """An argument that is a list of column names; one name alone will do."""
    value = arguments.get(field)
    if value is None:
        return default
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise fault(field, "must be a list of column names")
    if len(set(value)) != len(value):
        raise fault(field, "names a column twice")
    return value


def existing(field, table, default=None):
    """The same, every name being a column of the table."""
    wanted = names(field, default)
    for name in wanted or ():
        if name not in table.columns:
            known = ", ".join(map(str, table.columns[:20]))
            raise fault(field, f"there is no column {name!r}; the data has: {known}")
    return wanted


def needed(field, table):
    wanted = existing(field, table)
    if wanted is None:
        raise fault(field, f"is needed for {arguments['operation']}")
    return wanted


def function_name(field, value):
    if value not in FUNCTIONS:
        raise fault(field, f"{value!r} is none of {', '.join(FUNCTIONS)}")
    return value


def row_limit():
    limit = arguments.get("limit", DEFAULT_LIMIT)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_ROWS:
        raise fault("limit", f"must be a whole number from 1 to {MOST_ROWS}")
    return limit


def flag(field, default):
    value = arguments.get(field, default)
    if not isinstance(value, bool):
        raise fault(field, "must be true or false")
    return value


def check_arguments():
    """Gives the operation; refuses unknown arguments and those that it would ignore."""
    if not isinstance(arguments, dict):
        raise fault("arguments", "must be an object")
    operation = arguments.get("operation")
    if operation not in OPERATIONS:
        raise fault("operation", f"must be one of {', '.join(OPERATIONS)}")
    used = COMMON | OPERATIONS[operation][1]
    every = COMMON.union(*(options for _, options, _ in OPERATIONS.values()))
    for field in arguments:
        if field not in every:
            raise fault(field, "is not an argument of this tool")
        if field not in used:
            raise fault(field, f"has no meaning for {operation}")
    given = [field for field in SOURCES if arguments.get(field) is not None]
    if len(given) != 1:
        raise fault(given[1] if given else "path", f"give exactly one of {', '.join(SOURCES)}")
    return operation, given[0]


# --- reading -----------------------------------------------------------------------------------------------------


def workspace_file(path):
    """The file that `path` names inside the workspace."""
    if workspace is None:
        raise fault("path", "this call has no workspace; use csv or records")
    if not isinstance(path, str) or not path or "\0" in path:
        raise fault("path", "must be the name of a file")
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise fault("path", "must be relative to the workspace and must not contain '..'")
    root = Path(workspace).resolve()
    found = (root / relative).resolve()
    if not found.is_relative_to(root):
        raise fault("path", "leads out of the workspace")
    if not found.is_file():
        raise fault("path", f"there is no file {path!r} in the workspace")
    return found


def read_csv(field, source, separator):
    separator = arguments.get("delimiter", separator)
    if not isinstance(separator, str) or len(separator) != 1:
        raise fault("delimiter", "must be one character")
    try:
        return pd.read_csv(source, sep=separator, dtype_backend="numpy_nullable")
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise fault(field, f"cannot be read as delimited text: {error}") from None


def from_records(field, records):
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise fault(field, "must be a list of objects")
    table = pd.DataFrame(records, dtype=object)
    for name in table.columns:
        nested = table[name].map(lambda value: isinstance(value, (dict, list)))
        if nested.any():
            warnings.append(f"column {name!r} holds nested values, taken as JSON text")
            table.loc[nested, name] = table.loc[nested, name].map(json.dumps)
    return pd.DataFrame({name: typed(table[name]) for name in table.columns}, index=table.index)


def typed(column):
    """A column of Python values in the type that fits. pandas itself takes whole numbers beside a null through
    floating point, which is exact to 53 bits only."""
    present = column[column.notna()]
    if len(present) == 0 or not all(type(value) is int for value in present):
        return column.convert_dtypes()
    low, high = min(present), max(present)
    if -(2**63) <= low and high < 2**63:
        return column.where(column.notna(), None).astype("Int64")
    if low >= 0 and high < 2**64:
        return column.where(column.notna(), None).astype("UInt64")
    warnings.append(f"column {column.name!r} holds whole numbers beyond 64 bits, taken as text")
    return column.map(str, na_action="ignore").convert_dtypes()


def read_json(text, by_line):
    try:
        data = [json.loads(line) for line in text.splitlines() if line.strip()] if by_line else json.loads(text)
    except ValueError as error:
        raise fault("path", f"is not JSON: {error}") from None
    return from_records("path", data)


def read_parquet(file):
    try:
        return pd.read_parquet(file, dtype_backend="numpy_nullable")
    except ImportError:
        raise fault("path", "Parquet cannot be read here: pyarrow is not installed") from None


def read_file(file):
    suffix = file.suffix.lower()
    if suffix in SEPARATORS:
        return read_csv("path", file, SEPARATORS[suffix])
    if suffix in (".json", ".jsonl", ".ndjson"):
        return read_json(file.read_text(encoding="utf-8"), suffix != ".json")
    if suffix in (".parquet", ".pq"):
        return read_parquet(file)
    raise fault("path", f"unknown kind of file {suffix!r}; known: .csv .tsv .txt .json .jsonl .ndjson .parquet")


def read_table(source):
    value = arguments[source]
    if source == "path":
        table = read_file(workspace_file(value))
    elif source == "records":
        table = from_records("records", value)
    elif isinstance(value, str):
        table = read_csv("csv", io.StringIO(value), ",")
    else:
        raise fault("csv", "must be text")
    table.columns = [str(name) for name in table.columns]
    if len(table.columns) == 0:
        raise fault(source, "holds no columns")
    for name in existing("date_columns", table, []):
        table[name] = as_times(table[name])
    return without_infinities(table)


def as_times(column):
    """ISO 8601 in any of its forms, else whatever form the first value has."""
    try:
        return pd.to_datetime(column, format="ISO8601")
    except (ValueError, TypeError):
        pass
    try:
        return pd.to_datetime(column)
    except (ValueError, TypeError) as error:
        reason = str(error).split('. You might')[0]
        raise fault("date_columns", f"column {column.name!r} is not all dates: {reason}") from None


def without_infinities(table):
    for name in table.columns:
        if pd.api.types.is_float_dtype(table[name]):
            infinite = np.isinf(table[name].to_numpy(dtype="float64", na_value=np.nan))
            if infinite.any():
                warnings.append(f"column {name!r} holds {infinite.sum()} infinite values, taken as missing")
                table[name] = table[name].mask(infinite)
    return table


# --- values ------------------------------------------------------------------------------------------------------


def is_number(column):
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def is_time(column):
    return pd.api.types.is_datetime64_any_dtype(column)


def kind(column):
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    if is_number(column):
        return "number"
    return "timestamp" if is_time(column) else "text"


def plain(value):
    """A value as JSON has it: whole numbers exact, times in ISO 8601, what is missing or not finite as null."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def rows_of(table):
    columns = [[plain(value) for value in table[name]] for name in table.columns]
    return [dict(zip(table.columns, row)) for row in zip(*columns)]


def label(value):
    """A value as the name of a column."""
    value = plain(value)
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)


def exact_sum(table, name):
    """The column, as floating point where its sum could leave 64 bits."""
    column = table[name]
    if pd.api.types.is_integer_dtype(column) and len(column.dropna()):
        largest = max(abs(int(column.min())), abs(int(column.max())))
        if largest * len(column) >= 2**63:
            warnings.append(f"the sum of {name!r} exceeds 64 bits and is given as floating point")
            return column.astype("Float64")
    return column


def prepared(table, field, name, function):
    if function in NUMBERS_ONLY and not is_number(table[name]):
        raise fault(field, f"{function} needs numbers, and column {name!r} holds {kind(table[name])}")
    return exact_sum(table, name) if function == "sum" else table[name]


def grouped(table, keys):
    return table.groupby(keys, dropna=False, sort=True, observed=True)


# --- operations --------------------------------------------------------------------------------------------------


def describe(name, column):
    """One row of a summary."""
    present = column.dropna()
    row = {"column": name, "type": kind(column), "count": len(present), "missing": len(column) - len(present)}
    row["unique"] = int(present.nunique())
    if len(present) == 0:
        return row
    if is_number(column):
        numbers = present.astype("float64")
        quarters = numbers.quantile([0.25, 0.5, 0.75])
        row |= {"mean": numbers.mean(), "std": numbers.std(), "min": present.min(), "p25": quarters[0.25]}
        row |= {"median": quarters[0.5], "p75": quarters[0.75], "max": present.max()}
    elif is_time(column):
        row |= {"min": present.min(), "max": present.max()}
    else:
        counts = present.value_counts()
        row |= {"top": counts.index[0], "top_count": int(counts.iloc[0])}
    return {field: plain(value) for field, value in row.items()}


def summary(table):
    return [describe(name, table[name]) for name in existing("columns", table, list(table.columns))]


def correlation(table):
    chosen = existing("columns", table)
    for name in chosen or ():
        if not is_number(table[name]):
            raise fault("columns", f"column {name!r} holds {kind(table[name])}, not numbers")
    chosen = chosen or [name for name in table.columns if is_number(table[name])]
    if len(chosen) < 2:
        raise fault("columns", f"correlation needs two columns of numbers; there is {len(chosen)}")
    method = arguments.get("method", "pearson")
    if method not in ("pearson", "spearman"):
        raise fault("method", "must be pearson or spearman")
    matrix = table[chosen].astype("float64").corr(method=method).to_numpy()
    rows = [
        {"a": a, "b": b, "correlation": plain(matrix[i, j])}
        for i, a in enumerate(chosen)
        for j, b in enumerate(chosen[i + 1 :], i + 1)
    ]
    if any(row["correlation"] is None for row in rows):
        warnings.append("a correlation is null where a column is constant or two columns share too few rows")
    return sorted(rows, key=lambda row: -abs(row["correlation"] or 0.0))


def wanted_aggregations(table):
    """Pairs of column and function, from {column: function or list of functions}."""
    wanted = arguments.get("aggregations")
    if wanted is None:
        return []
    if not isinstance(wanted, dict) or not wanted:
        raise fault("aggregations", "must be an object from column names to lists of functions")
    pairs = []
    for name, functions in wanted.items():
        if name not in table.columns:
            raise fault("aggregations", f"there is no column {name!r}")
        functions = [functions] if isinstance(functions, str) else functions
        if not isinstance(functions, list):
            raise fault("aggregations", f"{name!r} must have a function or a list of functions")
        for function in functions:
            pairs.append((name, function_name("aggregations", function)))
    return pairs


def groupby(table):
    keys = needed("by", table)
    groups = grouped(table, keys)
    out = pd.DataFrame({"rows": groups.size()})
    for name, function in wanted_aggregations(table):
        column = prepared(table, "aggregations", name, function)
        out[f"{name}_{function}"] = column.groupby([table[key] for key in keys], dropna=False, observed=True).agg(function)
    for key in keys:
        if key in out.columns:
            out = out.rename(columns={key: f"{key} "})
    return rows_of(ordered(out.reset_index()))


def ordered(table):
    column = arguments.get("sort_by")
    if column is None:
        return table
    if column not in table.columns:
        raise fault("sort_by", f"the result has no column {column!r}; it has: {', '.join(table.columns)}")
    return table.sort_values(column, ascending=not flag("descending", True), kind="stable", na_position="last")


def pivot(table):
    index, values = needed("index", table), needed("values", table)
    across = existing("columns", table, [])
    function = function_name("aggregation", arguments.get("aggregation", "mean"))
    if set(index) & set(across):
        raise fault("columns", "a column cannot be both in index and in columns")
    columns = {name: prepared(table, "values", name, function) for name in values}
    keys = [table[name] for name in index]
    if across:
        spread = pd.MultiIndex.from_frame(table[across]).map(lambda key: " | ".join(map(label, key)))
        keys.append(pd.Series(spread, index=table.index, name="\0across", dtype=object))
        if keys[-1].nunique() > MOST_PIVOT_COLUMNS:
            raise fault("columns", f"would give {keys[-1].nunique()} columns; at most {MOST_PIVOT_COLUMNS}")
    parts = []
    for name, column in columns.items():
        part = column.groupby(keys, dropna=False, observed=True).agg(function)
        part = part.unstack(-1).sort_index(axis=1) if across else part.to_frame(name)
        part.columns = [f"{name} | {head}" if across and len(values) > 1 else head for head in part.columns]
        parts.append(part)
    out = pd.concat(parts, axis=1)
    out.columns = [f"{head} " if head in index else head for head in out.columns]
    return rows_of(ordered(out.reset_index()))


# --- charts ------------------------------------------------------------------------------------------------------


def field(name, sort=None, **more):
    """A Vega-Lite channel. Dots and brackets in a name would be read as paths."""
    for special in ("\\", ".", "[", "]"):
        name = name.replace(special, "\\" + special)
    return {"field": name, **more, **({"sort": sort} if sort is not None else {})}


def chart_of(rows, **more):
    return {"$schema": SCHEMA, "data": {"values": rows}, **more}


def summary_chart(rows, _table):
    numbers = [row for row in rows if "median" in row]
    if not numbers:
        encoding = {"y": field("column", type="nominal"), "x": field("unique", type="quantitative")}
        return chart_of(rows, mark="bar", encoding=encoding)
    x, axis = {"type": "quantitative"}, {"axis": {"title": None}}
    box = [
        {"mark": "rule", "encoding": {"x": field("min", **x, **axis), "x2": {"field": "max"}}},
        {"mark": {"type": "bar", "size": 14}, "encoding": {"x": field("p25", **x), "x2": {"field": "p75"}}},
        {"mark": {"type": "tick", "color": "white"}, "encoding": {"x": field("median", **x)}},
    ]
    facet = {"row": field("column", type="nominal", header={"labelAngle": 0, "labelAlign": "left"})}
    return chart_of(numbers, facet=facet, spec={"layer": box}, resolve={"scale": {"x": "independent"}})


def correlation_chart(rows, _table):
    both = rows + [{"a": row["b"], "b": row["a"], "correlation": row["correlation"]} for row in rows]
    scale = {"domain": [-1, 1], "scheme": "redblue"}
    encoding = {
        "x": field("a", type="nominal"),
        "y": field("b", type="nominal"),
        "color": field("correlation", type="quantitative", scale=scale),
    }
    return chart_of(both, mark="rect", encoding=encoding)


def axis_kind(table, name):
    return "temporal" if is_time(table[name]) else "ordinal" if is_number(table[name]) else "nominal"


def groupby_chart(rows, table):
    keys = names("by")
    pairs = wanted_aggregations(table)
    measures = ["_".join(pair) for pair in pairs] or ["rows"]
    measure = arguments["sort_by"] if arguments.get("sort_by") in measures else measures[0]
    along = axis_kind(table, keys[0])
    encoding = {
        "x": field(keys[0], type=along, sort=None if along == "temporal" else "-y" if "sort_by" in arguments else None),
        "y": field(measure, type="quantitative"),
    }
    if len(keys) > 1:
        encoding["color"] = field(keys[1], type="nominal")
    return chart_of(rows, mark="line" if along == "temporal" else "bar", encoding=encoding)


def pivot_chart(rows, table):
    index = names("index")
    heads = [head for head in rows[0] if head not in index] if rows else []
    long = [{index[0]: row[index[0]], "column": head, "value": row[head]} for row in rows for head in heads]
    along = axis_kind(table, index[0])
    if len(heads) == 1:
        encoding = {"x": field(index[0], type=along), "y": field("value", type="quantitative", title=heads[0])}
        return chart_of(long, mark="line" if along == "temporal" else "bar", encoding=encoding)
    encoding = {
        "x": field("column", type="nominal"),
        "y": field(index[0], type="ordinal" if along == "temporal" else along),
        "color": field("value", type="quantitative"),
    }
    return chart_of(long, mark="rect", encoding=encoding)


# Each with the options that are its own and its chart.
OPERATIONS = {
    "summary": (summary, {"columns"}, summary_chart),
    "correlation": (correlation, {"columns", "method"}, correlation_chart),
    "groupby": (groupby, {"by", "aggregations", "sort_by", "descending"}, groupby_chart),
    "pivot": (pivot, {"index", "columns", "values", "aggregation", "sort_by", "descending"}, pivot_chart),
}


def analyze():
    operation, source = check_arguments()
    limit, wants_chart = row_limit(), flag("chart", False)
    work, _, draw = OPERATIONS[operation]
    table = read_table(source)
    rows = work(table)
    answer = {"operation": operation, "rows": len(table), "columns": list(table.columns), "result": rows[:limit]}
    answer["truncated"] = len(rows) > limit
    if answer["truncated"]:
        warnings.append(f"the result has {len(rows)} rows, of which {limit} are given; raise limit for more")
    if wants_chart:
        answer["chart"] = draw(answer["result"], table)
    answer["warnings"] = warnings
    return answer


result = analyze()
