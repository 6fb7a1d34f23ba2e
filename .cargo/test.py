#!/usr/bin/env python3
"""Runs `cargo test` with the arguments given here, and says at its end what was left out.

A test that needs what not every machine has is ignored, with a reason that says what it needs.
Where the reason is a program that this machine has ("needs tmux"), the test runs after all
others. The rest are counted by their reason; `make test-all` and `make gpu-test` run them.

cargo's output is shown as it comes, and the exit status is cargo's.
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


def cargo_test(arguments):
    """Runs cargo; returns its exit status and the result and reason of each test by name."""
    command = ["cargo", "test", *arguments]
    print(*command, flush=True)
    results = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as cargo:
        for line in cargo.stdout:
            print(line, end="", flush=True)
            if match := RESULT.match(line.rstrip()):
                results.append(match.groups())
    return cargo.returncode, results


def run_where_possible(arguments, ignored):
    """Runs the ignored tests whose program is here; returns the exit status and the names of those that ran."""
    names, tests = [], []
    for program, files in PROGRAMS.items():
        needing = [name for name, reason in ignored if reason == f"needs {program}"]
        if needing and shutil.which(program):
            names += needing
            tests += [word for file in files for word in ("--test", file)]
    if not names:
        return 0, []
    status, results = cargo_test([*arguments, *tests, "--", "--ignored", "--exact", *names])
    return status, [name for name, result, _ in results if result != "ignored"]


def main(arguments):
    status, results = cargo_test(arguments)
    ignored = [(name, reason or "no reason given") for name, result, reason in results if result == "ignored"]
    again, ran = run_where_possible(arguments, ignored) if "--" not in arguments else (0, [])
    left_out = Counter(reason for name, reason in ignored if name not in ran)
    if left_out:
        print(f"\n{sum(left_out.values())} tests were ignored (see CONTRIBUTING.md):")
        for reason, count in left_out.most_common():
            print(f"{count:5}  {reason}")
    sys.exit(status or again)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
