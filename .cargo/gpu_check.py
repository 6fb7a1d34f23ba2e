#!/usr/bin/env python3
"""Builds, strips and packs what checks lorhai on a machine with a GPU: `make gpu-check`.

The archive target/gpu-check.tar.xz needs no network, no Rust and no compiler there, only a Python with torch 2.11 for
CUDA:

    tar xf gpu-check.tar.xz && python3 gpu-check/check.py

    gpu_check.py            builds and packs
    gpu_check.py --run      builds, and checks this machine
    gpu_check.py --standin  builds and packs, unpacks the archive, and checks it on the stand-in for a GPU
                            (tests/standin/README.md)

Further arguments go to check.py.
"""

import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
FOLDER = TARGET / "gpu-check"
ARCHIVE = TARGET / "gpu-check.tar.xz"
# Of the archive, in bytes, so that it travels quickly.
MOST = 64 * 10**6
TESTS = ["parity", "native", "batched", "columns", "generation"]
CARGO = ["--release", "--locked", "--message-format=json-render-diagnostics"]
# What the script and the test programs read, by their paths in the repository.
FILES = ["scripts/tiny", "scripts/rank_sweep.rhai", "tests/golden", "tests/standin/training.rhai", "tests/standin/variants.rhai"]
NOT_READ = shutil.ignore_patterns("*.py", "__pycache__", "*.md")


def main(arguments):
    mode = arguments[0] if arguments and arguments[0] in ("--run", "--standin") else "--pack"
    more = arguments if mode == "--pack" else arguments[1:]
    fill(build())
    if mode == "--run":
        sys.exit(run(FOLDER, more))
    pack()
    if mode == "--standin":
        folder = TARGET / "gpu-check-standin"
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        sys.exit(run(folder / FOLDER.name, ["--standin", str(TARGET / "standin"), *more]))


def build():
    """Builds all programs; returns their paths by name."""
    programs = {}
    tests = [word for name in TESTS for word in ("--test", name)]
    for command in (["build", "--bin", "lorhai", "--example", "bench"], ["test", "--no-run", *tests]):
        command = ["cargo", *command, *CARGO]
        print(*command, flush=True)
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("executable"):
                programs[message["target"]["name"]] = Path(message["executable"])
    return {name: programs[name] for name in ["lorhai", "bench", *TESTS]}


def fill(programs):
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "bin").mkdir(parents=True)
    for name, path in programs.items():
        stripped = FOLDER / "bin" / name
        subprocess.run(["strip", "-o", stripped, path], check=True)
    for path in FILES:
        source, target = ROOT / path, FOLDER / "tree" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=NOT_READ)
        else:
            shutil.copy2(source, target)
    shutil.copy2(ROOT / "tests/gpu/check.py", FOLDER / "check.py")


def pack():
    unpacked = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    # The programs have most of their code in common: a dictionary that reaches from one to the next counts for more than
    # a thorough search.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 2, "dict_size": 64 << 20}]
    with lzma.open(ARCHIVE, "wb", filters=filters) as out, tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(FOLDER, FOLDER.name)
    size = ARCHIVE.stat().st_size
    print(f"{ARCHIVE}: {size / 1e6:.1f} MB, {unpacked / 1e6:.0f} MB unpacked")
    if size > MOST:
        sys.exit(f"error: the archive has {size / 1e6:.1f} MB, and may have {MOST / 1e6:.0f}")


def run(folder, arguments):
    libtorch = Path(os.environ.get("LIBTORCH", ROOT / ".libtorch"))
    libraries = (libtorch / "runpath").read_text().strip()
    logs = TARGET / "gpu-check-logs"
    command = [sys.executable, folder / "check.py", "--libtorch", libraries, "--logs", logs, *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} failed (see above)")
    except KeyboardInterrupt:
        sys.exit(130)
