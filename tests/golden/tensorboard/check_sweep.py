"""Reads the event files of a sweep with TensorBoard, from the files and through its server, and
compares every value with `metrics.jsonl` and the settings in `config.json`.

    python tests/golden/tensorboard/check_sweep.py OUT

`tests/tensorboard.rs` runs it where TENSORBOARD_PYTHON names a Python with tensorboard.
"""

import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata


def tag(name):
    return "eval/" + name[5:] if name.startswith("eval_") else "train/" + name


def logged(folder):
    """Points by tag, as `metrics.jsonl` has them."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step":
                found.setdefault(tag(name), []).append((row["step"], value))
    return found


def leaves(prefix, value):
    """Settings by the path to them, as they are written as hyper-parameters."""
    if isinstance(value, dict):
        return {k: v for key, own in value.items() for k, v in leaves(f"{prefix}.{key}" if prefix else key, own).items()}
    return {} if value is None else {prefix: value}


def same(found, expected, what):
    assert [step for step, _ in found] == [step for step, _ in expected], what
    for (step, one), (_, other) in zip(found, expected):
        assert abs(one - other) <= 1e-6 * max(1, abs(other)), (what, step, one, other)


def check_files(folder):
    run = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    run.Reload()
    expected = logged(folder)
    assert sorted(run.Tags()["scalars"]) == sorted(expected), run.Tags()
    for name, points in expected.items():
        same([(event.step, event.value) for event in run.Scalars(name)], points, name)
    content = run.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    settings = leaves("", json.loads((folder / "config.json").read_text())["settings"])
    assert sorted(found) == sorted(settings), set(found) ^ set(settings)
    for name, value in settings.items():
        if not isinstance(value, list):
            assert found[name] == value, (name, found[name], value)
    return settings


def ask(address, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def check_server(address, settings):
    began = time.monotonic()
    while True:
        try:
            if sorted(ask(address + "runs")) == sorted(folder.name for folder in settings):
                break
        except OSError:
            pass
        assert time.monotonic() - began < 90, "the server does not show the runs"
        time.sleep(0.2)
    for folder in settings:
        points = ask(address + f"plugin/scalars/scalars?run={folder.name}&tag=train%2Floss")
        same([(step, value) for _, step, value in points], logged(folder)["train/loss"], folder.name)
    names = [own["name"] for own in ask(address + "plugin/hparams/experiment", {})["hparamInfos"]]
    assert {"lora.r", "train.optimizer.lr"} <= set(names), names
    asked = {
        "startIndex": 0,
        "sliceSize": 100,
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"hparam": name} for name in names],
    }
    groups = ask(address + "plugin/hparams/session_groups", asked)["sessionGroups"]
    found = {group["name"]: group["hparams"]["lora.r"] for group in groups}
    assert found == {folder.name: own["lora.r"] for folder, own in settings.items()}, found


def main():
    out = pathlib.Path(sys.argv[1])
    settings = {config.parent: check_files(config.parent) for config in sorted(out.glob("*/config.json"))}
    assert settings, "no trials"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "tensorboard.main", "--logdir", out, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    try:
        check_server(f"http://127.0.0.1:{port}/data/", settings)
    finally:
        server.terminate()
    print("ok: TensorBoard shows", len(settings), "trials")


if __name__ == "__main__":
    main()
