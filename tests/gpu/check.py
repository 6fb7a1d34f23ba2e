#!/usr/bin/env python3
"""Checks lorhai on the GPU of this machine, in less than eight minutes. `make gpu-check` packs it with the programs.

It needs no network, no Rust and no compiler, only torch 2.11 for CUDA in some Python of this machine. Each check prints
one line: its name, ok or failed, seconds, and what it found. All output is in the folder of the logs. A check that fails
or takes too long does not stop the others; the exit status is 0 if all passed.

    --logs FOLDER      for all output (gpu-check-logs)
    --libtorch FOLDER  libtorch's libraries, instead of those of a Python that has torch
    --standin FOLDER   checks on the stand-in for a GPU in this folder, with few numbers
    --seconds N        the time for all checks together (450)
    --only WORD        only the checks with WORD in their names; may be repeated
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE / "tree"
VERSION = "2.11."
# How far losses and norms of gradients on a GPU may be from those on the CPU, which sums in another order.
BOUNDS = {"f32": (1e-4, 1e-2), "bf16": (1e-2, 1e-1)}
FIRST_STEPS = """// Loads a model onto the GPU, trains one step, and writes a text.
let model = load_model("scripts/tiny", #{ device: "cuda" });
model.add_lora(#{ r: 4, target_modules: "all-linear" });
let data = load_dataset("scripts/tiny/train.jsonl").take(8).tokenize(model, #{ max_length: 64, cache: false });
train(model, data, #{ steps: 1, batch: 2, on_step: |report| print(`loss ${report.loss}`) });
print(`${model.device} ${model.dtype}: ${model.generate("a red fox", #{ max_new_tokens: 4 })}`);
"""


class Failed(Exception):
    """Why a check did not pass."""


class Machine:
    """This machine: where its libraries are, and how programs are run on it."""

    def __init__(self, options):
        self.logs = Path(options.logs).absolute()
        self.is_standin = options.standin is not None
        self.end = time.monotonic() + options.seconds * self.slowness()
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.folder = Path(tempfile.mkdtemp(prefix="gpu-check-"))
        (self.folder / "scripts").symlink_to(TREE / "scripts")
        libtorch = Path(options.libtorch) if options.libtorch else torch_libraries(self.is_standin)
        folders = [options.standin] if self.is_standin else []
        folders += [libtorch, *sorted(libtorch.parent.parent.glob("nvidia/*/lib")), os.environ.get("LD_LIBRARY_PATH")]
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders if folder),
            "CARGO_MANIFEST_DIR": str(TREE),
            "LORHAI_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        self.environment.pop("PEER_PYTHON", None)
        if self.is_standin:
            # Sums depend on the number of threads.
            self.environment["OMP_NUM_THREADS"] = "1"
        self.log = None
        self.limit = 0.0

    def slowness(self):
        """A stand-in computes on the processors of this machine."""
        return 5 if self.is_standin else 1

    def run(self, command, **variables):
        """Runs a program of the archive; returns what it wrote to stdout. All that it writes is in the log."""
        words = [str(HERE / "bin" / command[0]), *map(str, command[1:])]
        left = self.limit - time.monotonic()
        self.log.write("$ " + " ".join([*(f"{name}={value}" for name, value in variables.items()), *words]) + "\n")
        self.log.flush()
        process = subprocess.Popen(
            words, cwd=self.folder, env={**self.environment, **variables}, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL,
        )
        try:
            output, _ = process.communicate(timeout=max(left, 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            self.log.write(output)
            raise Failed("it took too long") from None
        self.log.write(output)
        self.log.flush()
        if process.returncode != 0:
            raise Failed(f"{command[0]} ended with {process.returncode}")
        return output

    def script(self, text, *settings):
        (self.folder / "check.rhai").write_text(text)
        return self.run(["lorhai", "run", "-q", "check.rhai", *(word for one in settings for word in ("--set", one))])


def torch_libraries(is_standin):
    """The folder of the libraries of the first Python here that has torch."""
    seen = []
    for python in [sys.executable, "python3", "python"]:
        ask = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else '')"
        try:
            done = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        if not done.stdout.strip():
            continue
        torch = Path(done.stdout.strip()).parent
        version = re.search(r"__version__\s*=\s*'([^']*)'", (torch / "version.py").read_text()).group(1)
        seen.append(f"{torch}: {version}")
        if version.startswith(VERSION) and (is_standin or (torch / "lib/libtorch_cuda.so").exists()):
            return torch / "lib"
    sys.exit(f"error: no Python has torch {VERSION}* for CUDA; there is: {', '.join(seen) or 'none'}\n  hint: --libtorch FOLDER")


# ---- checks: each returns the figure of its line -----------------------------------------------------------------


def doctor(machine):
    text = machine.run(["lorhai", "doctor"])
    gpus = re.findall(r"^GPU cuda:\d+ +(.*)$", text, re.M)
    kernels = re.findall(r"^GPU kernels +(.*)$", text, re.M)
    if not gpus or not all(line.startswith("compiled") for line in kernels):
        raise Failed("no GPU, or its kernels are not used: " + "; ".join(gpus + kernels))
    return f"{len(gpus)} × {gpus[0]}; kernels {kernels[0]}"


def first_steps(machine):
    loss, text = machine.script(FIRST_STEPS).strip().split("\n", 1)
    if not text.startswith("cuda:0 ") or not 0 < float(loss.split()[1]) < 20:
        raise Failed(f"{loss}; {text}")
    return f"{loss}; {text.splitlines()[0]}"


def tests(program, *words, least, is_for_standin=True, **variables):
    """Runs tests of a test program: all without words. At least so many have to pass."""

    def check(machine):
        if machine.is_standin and not is_for_standin:
            return "not for the stand-in"
        text = machine.run([program, *words, "--test-threads=1"], **variables)
        passed = int(re.search(r"(\d+) passed", text).group(1))
        if passed < least:
            raise Failed(f"{passed} tests passed, expected {least}")
        return f"{passed} tests passed"

    return check


def variants(dtype):
    """Ways to train, on the GPU and on the CPU: the losses and norms of gradients agree."""

    def check(machine):
        script = "\n".join((TREE / f"tests/standin/{name}.rhai").read_text() for name in ("training", "variants"))
        expected, actual = (
            [line.split() for line in machine.script(script, f"device={device}", f"dtype={dtype}").splitlines()]
            for device in ("cpu", "cuda")
        )
        if len(actual) < 20 or [line[:2] for line in actual] != [line[:2] for line in expected]:
            raise Failed(f"{len(actual)} lines on the GPU, {len(expected)} on the CPU")
        worst = []
        for column, what, bound in ((2, "loss", BOUNDS[dtype][0]), (3, "norm", BOUNDS[dtype][1])):
            off, at = max(
                (abs(float(a[column]) / float(e[column]) - 1), " ".join(a[:2])) for a, e in zip(actual, expected)
            )
            # NaN is not within a bound, either.
            if not off <= bound:
                raise Failed(f"{what} of {at} is off by {off:.1e}, more than {bound:.0e}")
            worst.append(f"{what} within {off:.1e}")
        return f"{len(actual)} steps: {', '.join(worst)}"

    return check


def sweep(machine):
    """The rank sweep of the repository, some of its trials side by side, and all of its charts."""
    settings = ["device=cuda", "out=sweep", "ranks=2,4,8,16", "seeds=2", "steps=5" if machine.is_standin else "steps=100"]
    words = [word for setting in settings for word in ("--set", setting)]
    machine.run(["lorhai", "run", "-q", "scripts/rank_sweep.rhai", *words])
    rows = json.loads((machine.folder / "sweep/results.json").read_text())
    losses = [row["eval_loss"] for row in rows]
    if len(rows) != 8 or not all(loss < 20 for loss in losses):
        raise Failed(f"{len(rows)} trials: {losses}")
    return f"{len(rows)} trials, losses {min(losses):.3f} to {max(losses):.3f}"


def other_gpu(machine):
    """The second GPU, where there is one, gives what the first does."""
    if "GPU cuda:1" not in machine.run(["lorhai", "doctor"]):
        return "one GPU only"
    script = (TREE / "tests/standin/training.rhai").read_text()
    script += 'train_as("x", #{ device: args(#{ device: "" }).device }, #{}, #{}, #{}, #{});'
    first, second = (machine.script(script, f"device={device}") for device in ("cuda:0", "cuda:1"))
    if not first or first != second:
        raise Failed(f"{first} on cuda:0, {second} on cuda:1")
    return "the same on cuda:0 and cuda:1"


def bench(word):
    """Steps of large random models: time, memory, and the fraction of the measured matrix rate."""

    def check(machine):
        file = machine.logs / f"bench-{word}.json"
        tiny = ["--tiny"] if machine.is_standin else []
        failure = None
        try:
            machine.run(["bench", "--gpu", *tiny, f"--out={file}", f"gpu {word} K="])
        except Failed as error:
            # Cases before the one that failed still count.
            failure = error
        rows = {row["name"]: row["ours"] for row in json.loads(file.read_text())} if file.exists() else {}
        cases = [name[: -len(": step")] for name in rows if name.endswith(": step")]
        lines = [f"matrix rate {rows.get('bf16 matrix rate', 0):.0f} TFLOP/s"]
        for case in cases:
            figures = (rows[f"{case}: {what}"] for what in ("step", "share of the matrix rate", "peak memory"))
            lines.append("{}: {:.1f} ms, {:.1f} % of the rate, {:.1f} GB".format(case, *figures_of(*figures)))
        if failure or len(cases) != 3:
            raise Failed("; ".join([str(failure or f"{len(cases)} of 3 cases"), *lines]))
        return "; ".join(lines)

    return check


def figures_of(milliseconds, percent, megabytes):
    return milliseconds, percent, megabytes / 1e3


# Name, the most seconds, the check.
CHECKS = [
    ("doctor", 30, doctor),
    ("first steps", 40, first_steps),
    ("native", 60, tests("native", least=12, LORHAI_TEST_DEVICE="cuda")),
    ("adapters side by side", 60, tests("batched", least=4, LORHAI_TEST_DEVICE="cuda")),
    ("operations on columns", 60, tests("columns", least=4, LORHAI_TEST_DEVICE="cuda")),
    ("native: cuDNN's attention", 30, tests("native", "attention", least=1, is_for_standin=False, LORHAI_TEST_DEVICE="cuda", LORHAI_CUDNN_ATTENTION="1")),
    # Without kernels the optimizer is made of libtorch's operations in Rust.
    ("native: without kernels", 60, tests("native", "--skip", "adamw", least=11, LORHAI_TEST_DEVICE="cuda", LORHAI_PLAIN_CUDA="1")),
    ("parity", 90, tests("parity", "on_a_gpu", "--ignored", least=5)),
    ("generation", 60, tests("generation", "on_a_gpu", "--ignored", least=1)),
    ("variants in f32", 60, variants("f32")),
    ("variants in bf16", 60, variants("bf16")),
    ("sweep", 60, sweep),
    ("two GPUs", 30, other_gpu),
    ("bench 0.5B", 90, bench("0.5B")),
    ("bench 7B", 180, bench("7B")),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", default="gpu-check-logs")
    parser.add_argument("--libtorch")
    parser.add_argument("--standin")
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    machine = Machine(options)
    failed = 0
    with open(machine.logs / "summary.txt", "w") as summary:
        for name, most, check in CHECKS:
            if options.only and not any(word in name for word in options.only):
                continue
            passed, line = run_check(machine, name, most, check)
            failed += not passed
            print(line, flush=True)
            summary.write(line + "\n")
            summary.flush()
    shutil.rmtree(machine.folder, ignore_errors=True)
    print(f"{failed} failed; logs in {machine.logs}" if failed else f"all passed; logs in {machine.logs}")
    sys.exit(1 if failed else 0)


def run_check(machine, name, most, check):
    """Runs a check within its time and that of all; returns whether it passed, and its line."""
    started = time.monotonic()
    machine.limit = min(machine.end, started + most * machine.slowness())
    with open(machine.logs / (re.sub(r"\W+", "-", name) + ".log"), "w") as machine.log:
        try:
            if started >= machine.end:
                raise Failed("no time is left")
            result, figure = "ok", check(machine)
        except Failed as error:
            result, figure = "failed", str(error)
        except Exception as error:  # Output in a form that was not expected: the other checks still run.
            result, figure = "failed", f"{type(error).__name__}: {error}"
            machine.log.write(f"{figure}\n")
    return result == "ok", f"{name:<28} {result:<7} {time.monotonic() - started:6.1f} s  {figure}"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
