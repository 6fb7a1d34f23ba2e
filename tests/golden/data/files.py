"""Inputs as people have them, and what datasets 5.2 reads of each: files.json, for tests/data_files.rs.

Run: python tests/golden/data/files.py (datasets, pandas, pyarrow, numpy)

A case is a folder of files, options of load_dataset, and Python's rows. `lorhai` says what lorhai reads
where that is something else: other rows with the reason, or the message of a refusal.
"""

import base64
import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

warnings.filterwarnings("ignore")
datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()

CASES = []
HERE = Path(__file__).parent


def plain(value):
    """A Python value as golden JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"\0number": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)):
        return str(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, bytes):
        return "bytes"
    return value


def encoded(content):
    content = content.encode() if isinstance(content, str) else content
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def case(name, files, path=None, options=None, python=None, lorhai=None, why=None):
    """`python` is a function of the path, by default datasets' loader for the ending; `lorhai` is "same",
    {"rows": …} or {"error": …}."""
    folder = Path(tempfile.mkdtemp())
    files = files if isinstance(files, dict) else {files[0]: files[1]}
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    path = path or next(iter(files))
    cache = tempfile.mkdtemp()
    try:
        rows = (python or read)(str(folder / path) if isinstance(path, str) else [str(folder / p) for p in path], cache)
        result = {"rows": plain(list(rows))}
    except Exception as error:
        cause = error.__cause__ or error
        text = str(cause).split("\n")[0].replace(str(folder), "…")[:100]
        result = {"error": f"{type(cause).__name__}: {text}"}
    entry = {"name": name, "files": {file: encoded(content) for file, content in files.items()}, "path": path}
    if options:
        entry["options"] = options
    entry["python"] = result
    if lorhai:
        entry["lorhai"] = lorhai
    if why:
        entry["why"] = why
    CASES.append(entry)
    shutil.rmtree(folder)
    shutil.rmtree(cache)


def read(path, cache, **options):
    first = path if isinstance(path, str) else path[0]
    builder = next(b for e, b in [(".json", "json"), (".ndjson", "json"), (".csv", "csv"), (".tsv", "csv"), (".txt", "text"),
                                  (".parquet", "parquet"), (".arrow", "arrow")] if e in os.path.basename(first))
    if ".tsv" in first:
        options.setdefault("sep", "\t")
    options.setdefault("split", "train")
    return datasets.load_dataset(builder, data_files=path, cache_dir=cache, **options).to_list()


def reading(**options):
    return lambda path, cache: read(path, cache, **options)


def folder(**options):
    options.setdefault("split", "train")
    return lambda path, cache: datasets.load_dataset(path, cache_dir=cache, **options).to_list()


LINES = '{"q":"x","n":1}\n{"q":"y","n":2}\n'
CSV = "q,n\nx,1\ny,2\n"


def same(rows):
    return {"rows": rows}


def refused(text):
    return {"error": text}


TWO = [{"q": "x", "n": 1}, {"q": "y", "n": 2}]

# JSON
case("lines in .json", ("d.json", LINES))
case("array in .jsonl", ("d.jsonl", '[{"q":"x","n":1},{"q":"y","n":2}]'))
case("array over several lines in .jsonl", ("d.jsonl", '[\n {"q":"x","n":1},\n {"q":"y","n":2}\n]\n'))
case("array in .json", ("d.json", '[{"q":"x","n":1},{"q":"y","n":2}]'))
case("ndjson", ("d.ndjson", LINES))
case("one object in .json", ("d.json", '{"prompt":"a","completion":"b"}'))
case("one object over lines", ("d.json", '{\n "prompt":"a",\n "completion":"b"\n}\n'))
case("objects over lines", ("d.json", '{\n"q":"x"}\n{\n"q":"y"}\n'))
case("two objects on a line", ("d.jsonl", '{"q":"x"}{"q":"y"}'))
case("one conversation", ("d.json", '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'))
case("list of texts", ("d.json", '["a","b"]'))
case("list of conversations", ("d.json", '[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]]'),
     lorhai=same([{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "user", "content": "b"}]}]),
     why="Python loses all turns but the first; noted")
case("list of numbers", ("d.json", "[1,2]"), lorhai=refused("row 0: expected an object, found a number"))
case("field", ("d.json", '{"version":"1","data":[{"q":"x"},{"q":"y"}]}'), options={"field": "data"},
     python=reading(field="data"))
case("rows under data", ("d.json", '{"version":"1","data":[{"q":"x"},{"q":"y"}]}'),
     lorhai=same([{"q": "x"}, {"q": "y"}]), why="the rows are what is meant; noted")
case("a row with a list of objects", ("d.json", '{"prompt":"a","choices":[{"t":"x"},{"t":"y"}]}'))
case("dict of splits", ("d.json", '{"train":[{"q":1}],"test":[{"q":2}]}'), lorhai=refused("rows, columns or splits?"))
case("dict of splits, uneven", ("d.json", '{"train":[{"q":1},{"q":3}],"test":[{"q":2}]}'),
     lorhai=refused("rows, columns or splits?"))
case("orient=split", ("d.json", '{"columns":["q","n"],"index":[0,1],"data":[["x",1],["y",2]]}'),
     python=lambda path, cache: json.loads(pd.read_json(path, orient="split").to_json(orient="records")))
case("dict of columns", ("d.json", '{"q":["x","y"],"n":[1,2]}'), lorhai=same(TWO), why="Dataset.from_dict's table; noted")
case("dict of lists in .jsonl", ("d.jsonl", '{"q":["x","y"],"n":[1,2]}\n'))
case("dict of uneven columns", ("d.json", '{"a":[1,2],"b":[1]}'), lorhai=refused("column `b` has 1 values"))
case("NaN and infinity in lines", ("d.jsonl", '{"t":"a","s":NaN}\n{"t":"b","s":Infinity}\n{"t":"NaN","s":-Infinity}\n'))
case("NaN in an array", ("d.json", '[{"t":"a","s":NaN},{"t":"b","s":1}]'),
     lorhai=same([{"t": "a", "s": {"\0number": "NaN"}}, {"t": "b", "s": 1}]), why="NaN stays NaN")
case("number above 2^63", ("d.jsonl", '{"id":18446744073709551615}\n'), lorhai=same([{"id": 18446744073709551615}]),
     why="exact; datasets rounds to a float")
case("number above 2^64", ("d.jsonl", '{"id":123456789012345678901234567890}\n'),
     lorhai=refused("line 1: column `id`: the whole number 123456789012345678901234567890 has more than 64 bits"))
case("number above 2^64 in an array", ("d.json", '[{"a":1},{"a":{"b":[123456789012345678901234567890]}}]'),
     lorhai=refused("row 1: column `a`: the whole number"))
case("number above 2^64 not selected", ("d.jsonl", '{"id":123456789012345678901234567890,"q":"x"}\n'),
     options={"columns": ["q"]}, lorhai=same([{"q": "x"}]), why="datasets has no columns option for json")
case("key given twice", ("d.jsonl", '{"a":1,"a":2}\n'), lorhai=refused("line 1: not valid JSON: the key `a` is given twice"))
case("keys that some rows lack", ("d.jsonl", '{"a":1}\n{"b":2}\n'))
case("nested keys that some rows lack", ("d.jsonl", '{"a":{"x":1}}\n{"a":{"y":1}}\n'))
case("types that change", ("d.jsonl", '{"a":"x"}\n{"a":2}\n'))
case("dates as text", ("d.jsonl", '{"a":"2024-01-02"}\n'), lorhai=same([{"a": "2024-01-02"}]),
     why="text stays text; datasets guesses a time")
case("lone surrogate", ("d.jsonl", '{"a":"bad \\ud83d tail"}\n'), lorhai=refused("a lone surrogate"))
case("BOM", ("d.jsonl", "\ufeff" + LINES))
case("UTF-16", ("d.jsonl", LINES.encode("utf-16")), lorhai=refused("UTF-16"))
case("UTF-16 without a mark", ("d.csv", CSV.encode("utf-16-le")), lorhai=refused("UTF-16"))
case("Latin-1", ("d.jsonl", '{"a":"caf\u00e9 au lait"}\n'.encode("latin-1")), lorhai=refused("as in Latin-1"))
case("CP949", ("d.csv", "a\n한국어\n".encode("cp949")), lorhai=refused("CP949"))
case("blank lines", ("d.jsonl", '{"q":"x"}\n\n  \n{"q":"y"}'))
case("comma too much", ("d.jsonl", '{"a":1,}\n'), lorhai=refused("line 1: not valid JSON: an extra comma"))
case("cut in the middle", ("d.jsonl", '{"a":1}\n{"a":'), lorhai=refused("line 2: not valid JSON"))

# Compression
XZ = lzma.compress(LINES.encode())
for ending, content in [("gz", gzip.compress(LINES.encode(), mtime=0)), ("bz2", bz2.compress(LINES.encode())), ("xz", XZ),
                        ("zst", zstandard.compress(LINES.encode()))]:
    case(f"jsonl.{ending}", (f"d.jsonl.{ending}", content))
case("csv.gz", ("d.csv.gz", gzip.compress(CSV.encode(), mtime=0)))
case("json.bz2", ("d.json.bz2", bz2.compress(b'[{"q":"x","n":1}]')))
case("txt.zst", ("d.txt.zst", zstandard.compress(b"a\n\nb\n")))
case("tsv.xz", ("d.tsv.xz", lzma.compress(b"q\tn\nx\t1\n")))
case("gz of two members", ("d.jsonl.gz", gzip.compress(b'{"q":"x"}\n', mtime=0) + gzip.compress(b'{"q":"y"}\n', mtime=0)))
case("gz without its ending", ("d.jsonl", gzip.compress(LINES.encode(), mtime=0)))
case("plain with the ending .gz", ("d.jsonl.gz", LINES), lorhai=same(TWO), why="the content decides")
case("gz cut short", ("d.jsonl.gz", gzip.compress((LINES * 50).encode(), mtime=0)[:40]), lorhai=refused("d.jsonl.gz"))
case("zip", ("d.jsonl", b"PK\x03\x04rest"), lorhai=refused("is a zip archive"))

# Tables
case("csv", ("d.csv", CSV))
case("semicolons", ("d.csv", "prompt;completion\nx;y\n"), lorhai=refused("the header is one column: `prompt;completion`"))
case("semicolons by option", ("d.csv", "prompt;completion\nx;y\n"), options={"delimiter": ";"}, python=reading(sep=";"))
case("one column with a semicolon", ("d.csv", "a;b\nx\n"), options={"delimiter": ","})
case("no header", ("d.csv", "x,1\ny,2\n"), options={"header": ["q", "n"]}, python=reading(column_names=["q", "n"]))
case("header: false", ("d.csv", "x,1\n"), options={"header": False}, python=reading(header=None))
case("quotes that are text, by option", ("d.tsv", 'a\tb\nsay "hi"\tx\n"open\ty\nz\tw\n'), options={"quoting": "none"},
     python=reading(quoting=3))
case("quotes that are text", ("d.tsv", 'a\tb\nsay "hi"\tx\n"open\ty\nz\tw\n'),
     lorhai=same([{"a": 'say "hi"', "b": "x"}, {"a": '"open', "b": "y"}, {"a": "z", "b": "w"}]),
     why="Python fails, or joins the rows; noted")
case("quotes that join rows", ("d.tsv", 'a\tb\n"open\ty\nz\tw"\n'),
     lorhai=same([{"a": '"open', "b": "y"}, {"a": "z", "b": 'w"'}]), why="Python joins both rows into one; noted")
case("text behind a quote in tsv", ("d.tsv", 'a\tb\n"x" y\t1\n"z"\t2\n'),
     lorhai=same([{"a": '"x" y', "b": 1}, {"a": '"z"', "b": 2}]), why="Python drops the quotes; noted")
case("text behind a quote in csv", ("d.csv", 'a,b\n"x" y,1\n'), why="as Python; noted")
case("quotes in the middle", ("d.tsv", 'a\tb\nsay "hi"\tx\n'))
case("quoted tsv", ("d.tsv", 'a\tb\n"x ""q"""\t1\n"two\nlines"\t2\n'))
case("quoted csv", ("d.csv", 'a,b\n"x, ""q""",1\n"two\nlines",2\n'))
case("quote that nothing closes", ("d.csv", 'a,b\n"x,1\ny,2\n'), lorhai=refused("line 2: a double quote opens a field"))
case("short rows", ("d.csv", "a,b,c\n1,2,3\n1,2\n"), lorhai=refused("line 3: expected 3 fields as in the header, found 2"),
     why="a guess: a field may be missing anywhere")
case("long rows", ("d.csv", "a,b\n1,2\n1,2,3\n"), lorhai=refused("line 3: expected 2 fields as in the header, found 3"))
case("two columns of one name", ("d.csv", "a,a\n1,2\n"), lorhai=refused("names column `a` twice"))
case("numbers that are text", ("d.csv", "zip,p\n007,1.50\n010,2.00\n"),
     lorhai=same([{"zip": "007", "p": "1.50"}, {"zip": "010", "p": "2.00"}]), why="kept as written; pandas changes them")
case("NA as text", ("d.csv", "a,b\nNA,None\nx,y\n"), lorhai=same([{"a": "NA", "b": "None"}, {"a": "x", "b": "y"}]),
     why="kept as written; pandas reads null")
case("empty fields", ("d.csv", 'a,b\nx,\n,y\n'))
case("carriage returns", ("d.csv", "a,b\r1,2\r"))
case("columns of csv", ("d.csv", "q,n,m\nx,1,2\n"), options={"columns": ["n"]}, python=reading(usecols=["n"]))
case("csv of UTF-8 with BOM", ("d.csv", "\ufeff" + CSV))
case("plain text", ("d.txt", "a\n\nb\r\nc"))


# Parquet and arrow
def parquet(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def table(**columns):
    return pa.table(columns)


def by_arrow(path, cache):
    return pq.read_table(path).to_pylist()


moment = datetime.datetime(2024, 1, 2, 3, 4, 5)
fine = moment.replace(microsecond=123456)
case("timestamps", ("d.parquet", parquet(table(
    s=pa.array([moment], pa.timestamp("s")), ms=pa.array([fine.replace(microsecond=123000)], pa.timestamp("ms")),
    us=pa.array([fine], pa.timestamp("us")), before=pa.array([datetime.datetime(1969, 12, 31, 23, 59, 59, 5)], pa.timestamp("us")),
    none=pa.array([None], pa.timestamp("us"))))), python=by_arrow)
case("timestamps of nanoseconds", ("d.parquet", parquet(table(a=pa.array([1704164645123456789], pa.timestamp("ns")),
     b=pa.array([1704164645000000000], pa.timestamp("ns"))))),
     python=lambda path, cache: [{name: str(value) for name, value in row.items()} for row in by_arrow(path, cache)])
case("timestamps with a zone", ("d.parquet", parquet(table(utc=pa.array([fine], pa.timestamp("us", "UTC")),
     fixed=pa.array([fine], pa.timestamp("us", "+09:00"))))), python=by_arrow)
case("timestamps of a named zone", ("d.parquet", parquet(table(t=pa.array([fine], pa.timestamp("us", "Asia/Seoul"))))),
     python=by_arrow, lorhai=same([{"t": "2024-01-02 03:04:05.123456+00:00"}]), why="the same moment, written in UTC")
case("dates, times, durations", ("d.parquet", parquet(table(
    d=pa.array([datetime.date(2024, 1, 2)], pa.date32()), old=pa.array([datetime.date(1, 1, 1)], pa.date32()),
    d64=pa.array([datetime.date(2024, 1, 2)], pa.date64()), t=pa.array([datetime.time(3, 4, 5, 6)], pa.time64("us")),
    tms=pa.array([datetime.time(3, 4, 5)], pa.time32("ms")),
    span=pa.array([datetime.timedelta(days=1, hours=2, microseconds=5)], pa.duration("us")),
    back=pa.array([datetime.timedelta(seconds=-1)], pa.duration("us"))))), python=by_arrow)
case("times of int96", ("d.parquet", parquet(table(t=pa.array([fine, None], pa.timestamp("us"))),
     use_deprecated_int96_timestamps=True)), python=by_arrow)
case("times of int96 beyond nanoseconds", ("d.parquet", parquet(table(
    t=pa.array([fine, datetime.datetime(9999, 12, 31)], pa.timestamp("us"))), use_deprecated_int96_timestamps=True)),
    python=by_arrow, lorhai=refused("row 1: column `t`: a time outside the years 1677 to 2262"))
case("decimals", ("d.parquet", parquet(table(a=pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.05")], pa.decimal128(20, 2)),
     b=pa.array([decimal.Decimal("12345678901234567890123456789.123"), None], pa.decimal128(38, 3))))), python=by_arrow)
case("whole numbers", ("d.parquet", parquet(table(u64=pa.array([2**64 - 1, 0], pa.uint64()), u32=pa.array([2**32 - 1, 0], pa.uint32()),
     i64=pa.array([-2**63, 2**53 + 1], pa.int64()), i8=pa.array([-128, None], pa.int8())))), python=by_arrow)
case("floats", ("d.parquet", parquet(table(f16=pa.array(np.array([0.1, 2], np.float16)), f32=pa.array([0.1, -2.5], pa.float32()),
     nan=pa.array([float("nan"), float("-inf")]), inf=pa.array([float("inf"), None])))), python=by_arrow)
case("dictionary and large text", ("d.parquet", parquet(table(c=pa.array(["x", None, "x"]).dictionary_encode(),
     l=pa.array(["a", "b", "c"], pa.large_string())))), python=by_arrow)
case("lists, structs, maps", ("d.parquet", parquet(table(
    l=pa.array([[1, None], []], pa.list_(pa.int32())), f=pa.array([[1.5, 2.0], None], pa.list_(pa.float64(), 2)),
    s=pa.array([{"a": 1, "b": [True]}, None], pa.struct([("a", pa.int64()), ("b", pa.list_(pa.bool_()))])),
    m=pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64()))))),
    python=lambda path, cache: [{**row, "m": dict(row["m"])} for row in by_arrow(path, cache)])
for codec in ["brotli", "gzip", "lz4", "snappy", "zstd"]:
    case(f"parquet of {codec}", ("d.parquet", parquet(table(q=["x", "y"], n=[1, 2]), compression=codec)))
IMAGE = table(prompt=["a", "b"], image=pa.array([{"bytes": b"\x89PNG\xff\x00", "path": None}, None],
              pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
case("image column", ("d.parquet", parquet(IMAGE)), lorhai=same([{"prompt": "a"}, {"prompt": "b"}]),
     why="a column of bytes is left out; noted")
case("image column selected", ("d.parquet", parquet(IMAGE)), options={"columns": ["prompt", "image"]},
     lorhai=refused("row 0: column `image`: expected text, found bytes"))
case("columns of parquet", ("d.parquet", parquet(IMAGE)), options={"columns": ["prompt"]}, python=reading(columns=["prompt"]))
case("column that is not there", ("d.parquet", parquet(IMAGE)), options={"columns": ["promt"]},
     python=reading(columns=["promt"]), lorhai=refused("option `columns`: no column `promt`"))
case("not parquet", ("d.parquet", LINES), lorhai=refused("not readable as parquet"))


def ipc(make, rows):
    out = io.BytesIO()
    data = pa.Table.from_pylist(rows)
    with make(out, data.schema) as writer:
        writer.write_table(data)
    return out.getvalue()


STREAM, FILE = ipc(pa.ipc.new_stream, TWO), ipc(pa.ipc.new_file, TWO)
case("arrow stream", ("d.arrow", STREAM))
case("arrow file", ("d.arrow", FILE))
case("arrow cut short", ("d.arrow", STREAM[:120]), lorhai=refused("d.arrow"))


def saved(data, **options):
    place = Path(tempfile.mkdtemp())
    data.save_to_disk(place, **options)
    files = {str(file.relative_to(place)): file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file()}
    return {f"s/{name}": content for name, content in files.items()}


three = datasets.Dataset.from_dict({"q": ["x", "y", "z"]})
case("save_to_disk", saved(three), path="s", python=lambda path, cache: datasets.load_from_disk(path).to_list())
case("save_to_disk in shards, with a cached copy", {**saved(three, num_shards=2), "s/cache-1.arrow": STREAM}, path="s",
     python=lambda path, cache: datasets.load_from_disk(path).to_list())
case("save_to_disk of splits", saved(datasets.DatasetDict(train=three, held_out=three.select([0]))), path="s",
     options={"split": "held_out"}, python=lambda path, cache: datasets.load_from_disk(path)["held_out"].to_list())

# Folders, splits, several files
STRAY = {"d/train.jsonl": LINES, "d/test.jsonl": '{"q":"z","n":3}\n', "d/meta.json": '{"made":"by hand"}'}
case("stray file", STRAY, path="d", python=folder())
case("test beside a stray file", STRAY, path="d", options={"split": "test"}, python=folder(split="test"))
case("dev is validation", {"d/train.csv": CSV, "d/dev.csv": "q,n\nv,9\n"}, path="d", options={"split": "validation"},
     python=folder(split="validation"))
case("folders are splits", {"d/train/a.csv": CSV, "d/test/test.csv": "q,n\nv,9\n"}, path="d", python=folder())
case("shards of named splits", {"d/data/train_sft-00000-of-00001.parquet": parquet(table(q=["a"])),
     "d/data/test_sft-00000-of-00001.parquet": parquet(table(q=["b"]))}, path="d", options={"split": "test_sft"},
     python=folder(split="test_sft"))
MANY = "".join(f'{{"n":{n}}}\n' for n in range(10))
for text in ["train[:25%]", "train[2:4]", "train[-3:]", "train[50%:70%]+train[:1]", "train[:-8]"]:
    case(f"split {text}", ("d.jsonl", MANY), options={"split": text}, python=reading(split=text))
case("train+test", STRAY, path="d", options={"split": "train+test"}, python=folder(split="train+test"))
case("no such split", STRAY, path="d", options={"split": "validation"}, python=folder(split="validation"),
     lorhai=refused("has no split `validation`"))
case("several files", {"a.jsonl": LINES, "b.jsonl": '{"q":"z","n":3}\n'}, path=["a.jsonl", "b.jsonl"])
case("glob", {"p/a.jsonl": LINES, "p/b.jsonl": '{"q":"z","n":3}\n', "p/c.csv": CSV}, path="p/*.jsonl")
case("shards of other columns", {"p/a.jsonl": '{"a":1}\n', "p/b.jsonl": '{"a":2,"b":3}\n'}, path="p/*.jsonl",
     python=reading(features=datasets.Features(a=datasets.Value("int64"), b=datasets.Value("int64"))))


# Splits and shuffles by seed
def orders():
    cases = []
    for size in [2, 3, 10, 97, 1000, 4672]:
        data = datasets.Dataset.from_dict({"n": list(range(size))})
        for seed in [0, 1, 42, 1234, 2**32 - 1, 2**40 + 5]:
            entry = {"size": size, "seed": seed, "shuffle": data.shuffle(seed=seed)["n"][:12]}
            for test in [0.1, 0.25, 1]:
                both = data.train_test_split(test_size=test, seed=seed) if size > 2 or test == 1 else None
                if both:
                    entry[str(test)] = [len(both["train"]), both["train"]["n"][:8], both["test"]["n"][:8]]
            cases.append(entry)
    strata = []
    for size, classes in [(12, 2), (50, 3), (301, 7)]:
        labels = [(n * n + n // 3) % classes for n in range(size)]
        data = datasets.Dataset.from_dict({"n": list(range(size)), "label": labels})
        data = data.cast_column("label", datasets.ClassLabel(num_classes=classes))
        for seed in [0, 42, 7]:
            both = data.train_test_split(test_size=0.25, seed=seed, stratify_by_column="label")
            strata.append({"labels": labels, "seed": seed, "train": both["train"]["n"][:20], "test": both["test"]["n"][:20]})
    return {"orders": cases, "stratified": strata}


if __name__ == "__main__":
    text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in CASES)
    (HERE / "files.json").write_text(f"[\n{text}\n]\n")
    (HERE / "orders.json").write_text(json.dumps(orders(), default=lambda value: list(value), separators=(",", ":")) + "\n")
    print(len(CASES), "cases")
