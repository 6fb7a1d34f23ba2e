"""Writes nested.parquet with pyarrow: lists, structs, nulls. Run: python tests/golden/data/generate.py"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

message = pa.struct([("role", pa.string()), ("content", pa.string())])
schema = pa.schema([
    ("id", pa.int64()), ("text", pa.string()), ("score", pa.float64()), ("ok", pa.bool_()),
    ("messages", pa.list_(message)), ("tags", pa.list_(pa.large_string())),
])
rows = [
    {"id": 1, "text": "가나다", "score": 0.5, "ok": True,
     "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}], "tags": ["a", "b"]},
    {"id": 2, "text": "", "score": None, "ok": False, "messages": [{"role": "user", "content": "😀"}], "tags": []},
    {"id": 3, "text": None, "score": -1e300, "ok": None, "messages": [], "tags": None},
]
pq.write_table(pa.Table.from_pylist(rows, schema=schema), Path(__file__).parent / "nested.parquet", compression="zstd")
