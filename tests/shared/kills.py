"""Kills random workers of a shared sweep at random moments, and compares its end with that of one process.

    python3 tests/shared/kills.py target/release/lorhai [--kills 50] [--workers 4] [--seed 1]

It fails if a trial was concluded twice or not at all, if more than a checkpoint interval was lost at once, or if a file differs
but for times and places.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

INTERVAL = 5
SCRIPT = """// A sweep of 24 trials for the kills.
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(60).tokenize(base, #{}).split(#{ test: 0.1 });
let result = sweep(base, data, #{
    grid:  #{ rank: [2, 4, 8, 16], lr: [1e-3, 2e-3], seed: 3 },
    lora:  #{ dropout: 0.1, target_modules: "all-linear" },
    train: #{ steps: STEPS, batch: 2, eval_every: 20 },
    save_every: 5, charts: false,
    out:   "runs/x" });
print(`${result.rows.len()} rows`);
"""
TRIALS = 24


def start(program, folder, arguments, reports):
    """A process, and the file with what it reports."""
    path = folder / f"err.{len(reports)}"
    reports.append(path)
    environment = {**os.environ, "LORHAI_CACHE": str(folder / "cache"), "LORHAI_SWEEP_RUN": "kills"}
    command = [program, "run", "--json", "case.rhai", *arguments]
    with open(path, "wb") as errors, open(folder / f"out.{len(reports)}", "wb") as output:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)


def objects(path):
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            pass  # The last line of a process that was killed.


def without_times(value):
    times = ("seconds", "peak_memory", "time", "place", "tokens_per_s", "events", "log_bytes", "log_crc", "bytes", "sha256")
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in times and not key.endswith("_per_s")}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def content(out):
    """The files of all trials, for comparison."""
    files = {}
    for path in sorted(out.glob("*_seed-*/**/*")):
        name = str(path.relative_to(out))
        if path.is_dir() or "tfevents" in name or name.endswith("origin.json"):
            continue
        if path.suffix == ".json":
            text = json.dumps(without_times(json.loads(path.read_text())))
        elif path.suffix == ".jsonl":
            text = "\n".join(json.dumps(without_times(json.loads(line))) for line in path.read_text().splitlines())
        else:
            text = hashlib.sha256(path.read_bytes()).hexdigest()
        files[name] = text
    files["results.json"] = json.dumps(without_times(json.loads((out / "results.json").read_text())))
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pause", type=float, default=2.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}")
    scripts = pathlib.Path(__file__).resolve().parents[2] / "scripts"
    with tempfile.TemporaryDirectory() as scratch:
        folders = [pathlib.Path(scratch) / name for name in ("one", "many")]
        for folder in folders:
            folder.mkdir()
            (folder / "scripts").symlink_to(scripts)
            (folder / "case.rhai").write_text(SCRIPT.replace("STEPS", str(options.steps)))
        began = time.monotonic()
        alone = start(options.program, folders[0], [], [])
        assert alone.wait() == 0, (folders[0] / "err.0").read_text()
        print(f"one process: {time.monotonic() - began:.1f} s")

        began, reports, kills = time.monotonic(), [], 0
        arguments = ["--shared", "--threads", "1"]
        workers = [start(options.program, folders[1], arguments, reports) for _ in range(options.workers)]
        while kills < options.kills and any(worker.poll() is None for worker in workers):
            time.sleep(chance.uniform(0.1, options.pause))
            number = chance.randrange(options.workers)
            if workers[number].poll() is None:
                workers[number].send_signal(signal.SIGKILL)
                workers[number].wait()
                kills += 1
            else:
                assert workers[number].returncode == 0, f"worker ended with {workers[number].returncode}"
            workers[number] = start(options.program, folders[1], arguments, reports)
        for worker in workers:
            assert worker.wait() == 0, [path.read_text()[-2000:] for path in reports[-options.workers :]]
        print(f"{options.workers} workers, {kills} kills: {time.monotonic() - began:.1f} s")

        everything = [thing for path in reports for thing in objects(path)]
        counts = collections.Counter(thing["trial"] for thing in everything if thing["kind"] == "trial_finished")
        # Killed between the rename and the report of it, a worker says nothing: then no other one may, either.
        silent = TRIALS - len(counts)
        taken = sum(thing["kind"] == "trial_taken_over" for thing in everything)
        farthest, losses, steps = {}, [], 0
        for thing in sorted((thing for thing in everything if thing["kind"] == "step"), key=lambda thing: thing["time"]):
            steps += 1
            last = farthest.get(thing["trial"], 0)
            if thing["step"] <= last:
                losses.append(last + 1 - thing["step"])
            farthest[thing["trial"]] = thing["step"]
        needed = TRIALS * options.steps
        print(f"concluded once: {sum(count == 1 for count in counts.values())} of {TRIALS}, not reported: {silent}, "
              f"twice: {sum(count > 1 for count in counts.values())}")
        print(f"taken over: {taken}; steps: {steps} for {needed}, {steps - needed} again; most lost at once: {max(losses, default=0)}")
        one, many = (content(folder / "runs/x") for folder in folders)
        differing = sorted(name for name in one.keys() | many.keys() if one.get(name) != many.get(name))
        print(f"files compared: {len(one)}, differing: {differing}")
        left = [name for name in (".work", "checkpoints") if (folders[1] / "runs/x" / name).exists()]
        failures = [
            all(count == 1 for count in counts.values()) and silent <= kills,
            max(losses, default=0) <= INTERVAL,
            not differing,
            not left,
        ]
        sys.exit(0 if all(failures) else 1)


if __name__ == "__main__":
    main()
