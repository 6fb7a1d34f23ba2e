#!/usr/bin/env python3
"""Runs `cargo test` with the arguments given here, and says at its end what was left out.

A test that needs what not every machine has is ignored, with a reason that says what it needs.
Where the reason is a program that this machine has ("needs tmux"), the test runs after all
others. Those that need a GPU run on the stand-in for one (tests/standin/README.md), where it is built.
The rest are counted by their reason; `make test-all` runs them.

cargo's output is shown as it comes, and the exit status is cargo's. What failed is shown once more
at the end, so that the last lines of a long report say all that went wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

# Programs that a reason may name, and the test programs whose tests need them.
PROGRAMS = {"tmux": ["progress", "repl"], "node": ["plot"], "strace": ["saving"]}
# The test programs with tests `on_a_gpu`, and the libraries that stand for one.
GPU_PROGRAMS = ["parity", "generation"]
STANDIN = Path(__file__).resolve().parent.parent / "target/standin"
# Threads of libtorch that wait for work would take the cores from other tests.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", **os.environ}
RESULT = re.compile(r"test (\S+).* \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
# The output of a test that failed, as its test program repeats it after all tests.
FAILURE = re.compile(r"---- (\S+) stdout ----$")
# cargo's line on a test program that failed, also where it ended before it could say why.
PROGRAM_FAILED = "error: test failed, "
# So many lines of each failure are shown at the end.
MOST_LINES = 40


def cargo_test(arguments, environment=None):
    """Runs cargo, with these variables added; returns its exit status, the result and reason of each test by name, and what it said of failures."""
    command = ["cargo", "test", *arguments]
    print(*command, flush=True)
    results, failures, block = [], [], None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**ENVIRONMENT, **(environment or {})}
    with subprocess.Popen(command, **pipes, text=True, errors="replace", env=environment) as cargo:
        for line in cargo.stdout:
            print(line, end="", flush=True)
            if match := RESULT.match(line.rstrip()):
                results.append(match.groups())
            if line.startswith(PROGRAM_FAILED):
                failures.append([line])
            if FAILURE.match(line.rstrip()):
                block = [line]
                failures.append(block)
            elif line.startswith(("failures:", "test result:")):
                block = None
            elif block is not None:
                block.append(line)
    return cargo.returncode, results, failures


def run_where_possible(arguments, ignored):
    """Runs the ignored tests whose program is here; returns the exit status, the names of those that ran, and failures."""
    names, tests = [], []
    for program, files in PROGRAMS.items():
        needing = [name for name, reason in ignored if reason == f"needs {program}"]
        if needing and shutil.which(program):
            names += needing
            tests += [word for file in files for word in ("--test", file)]
    if not names:
        return 0, [], []
    status, results, failures = cargo_test([*arguments, *tests, "--", "--ignored", "--exact", *names])
    return status, [name for name, result, _ in results if result != "ignored"], failures


def run_on_stand_in(arguments):
    """Runs the tests that need a GPU, and those of the shim with all tensors on it; returns the same."""
    if not (STANDIN / "libtorch_cuda.so").exists():
        return 0, [], []
    folders = [str(STANDIN), os.environ.get("LD_LIBRARY_PATH")]
    # Sums depend on the number of threads.
    environment = {"LD_LIBRARY_PATH": ":".join(filter(None, folders)), "OMP_NUM_THREADS": "1"}
    tests = [word for program in GPU_PROGRAMS for word in ("--test", program)]
    status, results, failures = cargo_test([*arguments, *tests, "on_a_gpu", "--", "--ignored"], environment)
    environment["LORHAI_TEST_DEVICE"] = "cuda"
    again, _, more = cargo_test([*arguments, "--test", "native"], environment)
    return status or again, [name for name, result, _ in results if result != "ignored"], failures + more


def main(arguments):
    status, results, failures = cargo_test(arguments)
    ran = []
    ignored = [(name, reason or "no reason given") for name, result, reason in results if result == "ignored"]
    of_cargo = arguments[: arguments.index("--")] if "--" in arguments else arguments
    more = [run_on_stand_in(of_cargo)]
    if "--" not in arguments:
        more.append(run_where_possible(arguments, ignored))
    for again, names, blocks in more:
        status, ran, failures = status or again, ran + names, failures + blocks
    left_out = Counter(reason for name, reason in ignored if name not in ran)
    if left_out:
        print(f"\n{sum(left_out.values())} tests were ignored (see CONTRIBUTING.md):")
        for reason, count in left_out.most_common():
            print(f"{count:5}  {reason}")
    for block in failures:
        print("\n" + "".join(block[:MOST_LINES]).rstrip())
    sys.exit(status)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
