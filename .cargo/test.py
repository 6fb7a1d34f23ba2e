#!/usr/bin/env python3
"""Runs `cargo test` with the arguments given here, and says at its end what was left out.

A test that needs what not every machine has is ignored, with a reason that says what it needs.
Where the reason is a program that this machine has ("needs tmux"), the test runs after all
others. The rest are counted by their reason; `make test-all` and `make gpu-test` run them.

cargo's output is shown as it comes, and the exit status is cargo's. What failed is shown once more
at the end, so that the last lines of a long report say all that went wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

# Programs that a reason may name, and the test programs whose tests need them.
PROGRAMS = {"tmux": ["progress", "repl"], "node": ["plot"], "strace": ["saving"]}
# Threads of libtorch that wait for work would take the cores from other tests.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", **os.environ}
RESULT = re.compile(r"test (\S+).* \.\.\. (ok|FAILED|ignored)(?:, (.*))?$")
# The output of a test that failed, as its test program repeats it after all tests.
FAILURE = re.compile(r"---- (\S+) stdout ----$")
# cargo's line on a test program that failed, also where it ended before it could say why.
PROGRAM_FAILED = "error: test failed, "
# So many lines of each failure are shown at the end.
MOST_LINES = 40


def cargo_test(arguments):
    """Runs cargo; returns its exit status, the result and reason of each test by name, and what it said of failures."""
    command = ["cargo", "test", *arguments]
    print(*command, flush=True)
    results, failures, block = [], [], None
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **pipes, text=True, errors="replace", env=ENVIRONMENT) as cargo:
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


def main(arguments):
    status, results, failures = cargo_test(arguments)
    ignored = [(name, reason or "no reason given") for name, result, reason in results if result == "ignored"]
    again, ran, more = run_where_possible(arguments, ignored) if "--" not in arguments else (0, [], [])
    left_out = Counter(reason for name, reason in ignored if name not in ran)
    if left_out:
        print(f"\n{sum(left_out.values())} tests were ignored (see CONTRIBUTING.md):")
        for reason, count in left_out.most_common():
            print(f"{count:5}  {reason}")
    for block in failures + more:
        print("\n" + "".join(block[:MOST_LINES]).rstrip())
    sys.exit(status or again)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
