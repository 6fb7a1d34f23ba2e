#!/usr/bin/env python3
"""Runs `cargo test` with the arguments given here, and says at its end what was left out.

cargo runs one test program after another, and waits for the last test of each. Here several run at once,
each with one thread, those that take long first, so that all processors have work until the end.

A test that needs what not every machine has is ignored, with a reason that says what it needs.
Where the reason is a program that this machine has ("needs tmux"), or a variable that is set, the test runs after all
others. Those that need a GPU run on the stand-in for one (tests/standin/README.md), where it is built.
The rest are counted by their reason; `make test-all` runs them.

The output of a program is shown when it ends. What failed is shown once more
at the end, so that the last lines of a long report say all that went wrong.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

# Programs that a reason may name, and the test programs whose tests need them.
PROGRAMS = {"tmux": ["progress", "repl"], "node": ["plot"], "strace": ["saving"], "parallel": ["cluster"]}
# Variables that a reason may name, likewise.
VARIABLES = {"NVRTC_LIBRARY": ["native"]}
# The test programs with tests `on_a_gpu`, and the libraries that stand for one.
GPU_PROGRAMS = ["parity", "generation"]
# Those of the shim, whose tensors are on the device that LORHAI_TEST_DEVICE names.
SHIM_PROGRAMS = ["native", "batched", "columns"]
ROOT = Path(__file__).resolve().parent.parent
STANDIN = ROOT / "target/standin"
# The test programs that take longest, in this order.
LONGEST = [
    "families", "scripts", "shared_sweep", "rehearsal", "plot", "standin", "resume", "sweep_axes", "memory", "pruning",
    "documents", "repl", "together", "sandbox", "own_sweeps", "replay", "own_runs", "adaptive_sweeps", "api_docs",
]
# Threads of libtorch that wait for work would take the cores from other tests.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", **os.environ}
RESULT = re.compile(r"test (\S+).* \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
# The output of a test that failed, as its test program repeats it after all tests.
FAILURE = re.compile(r"---- (\S+) stdout ----$")
# So many lines of each failure are shown at the end.
MOST_LINES = 40


def built_programs(arguments):
    """Builds the test programs; returns the exit status, and the name and path of each."""
    arguments = [word for word in arguments if word != "--no-fail-fast"]
    command = ["cargo", "test", *arguments, "--no-run", "--message-format=json-render-diagnostics"]
    print(*command, flush=True)
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    programs = []
    for line in built.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["profile"]["test"]:
            programs.append((message["target"]["name"], message["executable"]))
    return built.returncode, programs


class Report:
    """What test programs printed: the result and reason of each test by name, and the text of each failure."""

    def __init__(self):
        self.status, self.results, self.failures = 0, [], []

    def read(self, lines, status, name):
        block = None
        for line in lines:
            if match := RESULT.match(line.rstrip()):
                self.results.append(match.groups())
            if FAILURE.match(line.rstrip()):
                block = [line]
                self.failures.append(block)
            elif line.startswith(("failures:", "test result:")):
                block = None
            elif block is not None:
                block.append(line)
        if status:
            self.status = self.status or 1
            # A program that a signal ended could not say what failed.
            self.failures.append([f"{name} failed: exit status {status}\n", *(lines[-MOST_LINES:] if status < 0 else [])])

    def add(self, other):
        self.status = self.status or other.status
        self.results += other.results
        self.failures += other.failures


def cargo_test(arguments, environment=None):
    """Runs cargo, with these variables added, and shows its output as it comes."""
    command = ["cargo", "test", *arguments]
    print(*command, flush=True)
    lines, report = [], Report()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**ENVIRONMENT, **(environment or {})}
    with subprocess.Popen(command, **pipes, text=True, errors="replace", env=environment) as cargo:
        for line in cargo.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    report.read(lines, cargo.returncode, "cargo test")
    return report


def run_all(of_cargo, of_tests):
    """Builds and runs all test programs, several at once, and then the examples in documentation."""
    report = Report()
    report.status, programs = built_programs(of_cargo)
    if report.status:
        return report
    order = {name: at for at, name in enumerate(LONGEST)}
    programs.sort(key=lambda program: order.get(program[0], len(order)))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = min(processors, 8)
    environment = {**ENVIRONMENT, "RUST_TEST_THREADS": str(processors // at_once)}

    def run(program):
        started = time.monotonic()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": ROOT}
        ended = subprocess.run([program[1], *of_tests], **pipes, text=True, errors="replace", env=environment)
        return program[0], ended, time.monotonic() - started

    with ThreadPoolExecutor(at_once) as pool:
        for running in as_completed([pool.submit(run, program) for program in programs]):
            name, ended, seconds = running.result()
            print(f"\n     Running {name} ({seconds:.0f} s)\n{ended.stdout}", end="", flush=True)
            report.read(ended.stdout.splitlines(keepends=True), ended.returncode, name)
    if not {"--lib", "--bin", "--test", "--tests"} & set(of_cargo):
        report.add(cargo_test(["--doc", *of_cargo]))
    return report


def run_where_possible(arguments, ignored):
    """Runs the ignored tests whose program is here."""
    names, tests = [], []
    for need, files in {**PROGRAMS, **VARIABLES}.items():
        needing = [name for name, reason in ignored if reason == f"needs {need}"]
        if needing and (shutil.which(need) or os.environ.get(need)):
            names += needing
            tests += [word for file in files for word in ("--test", file)]
    if not names:
        return Report()
    return cargo_test([*arguments, *tests, "--", "--ignored", "--exact", *names])


def run_on_stand_in(arguments):
    """Runs the tests that need a GPU, and those of the shim with all tensors on it."""
    report = Report()
    if not (STANDIN / "libtorch_cuda.so").exists():
        return report
    folders = [str(STANDIN), os.environ.get("LD_LIBRARY_PATH")]
    # Sums depend on the number of threads.
    environment = {"LD_LIBRARY_PATH": ":".join(filter(None, folders)), "OMP_NUM_THREADS": "1"}
    tests = [word for program in GPU_PROGRAMS for word in ("--test", program)]
    report.add(cargo_test([*arguments, *tests, "on_a_gpu", "--", "--ignored"], environment))
    environment["LORHAI_TEST_DEVICE"] = "cuda"
    tests = [word for program in SHIM_PROGRAMS for word in ("--test", program)]
    report.add(cargo_test([*arguments, *tests], environment))
    return report


def main(arguments):
    at = arguments.index("--") if "--" in arguments else len(arguments)
    of_cargo, of_tests = arguments[:at], arguments[at + 1 :]
    report = run_all(of_cargo, of_tests)
    ignored = [(name, reason or "no reason given") for name, result, reason in report.results if result == "ignored"]
    if not report.results:
        sys.exit(report.status)
    report.add(run_on_stand_in(of_cargo))
    if not of_tests:
        report.add(run_where_possible(of_cargo, ignored))
    ran = {name for name, result, _ in report.results if result != "ignored"}
    left_out = Counter(reason for name, reason in ignored if name not in ran)
    if left_out:
        print(f"\n{sum(left_out.values())} tests were ignored (see CONTRIBUTING.md):")
        for reason, count in left_out.most_common():
            print(f"{count:5}  {reason}")
    for block in report.failures:
        print("\n" + "".join(block[:MOST_LINES]).rstrip())
    sys.exit(report.status)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
