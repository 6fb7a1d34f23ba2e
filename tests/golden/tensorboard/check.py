"""Reads the golden event file with TensorBoard itself and checks every value in it.

    pip install tensorboard
    python tests/golden/tensorboard/check.py

The file is written by the test `train::tensorboard` with LORHAI_WRITE_GOLDEN=1 set; after
a change of the writer, write it anew, run this, and commit it.
"""

import pathlib
import shutil
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

GOLDEN = pathlib.Path(__file__).with_name("events.out.tfevents.golden")
STEPS = [1, 2, 300]
EXPECTED = {
    "train/epoch": [(step, step / 100) for step in STEPS],
    "train/loss": [(step, 3 - step / 256) for step in STEPS],
    "train/learning_rate": [(step, 2e-4) for step in STEPS],
    "train/grad_norm": [(step, 0.5) for step in STEPS],
    "eval/loss": [(300, 1.25)],
}


def main():
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(GOLDEN, folder)
        run = EventAccumulator(folder)
        run.Reload()
    assert run.file_version == 2.0, run.file_version
    assert sorted(run.Tags()["scalars"]) == sorted(EXPECTED), run.Tags()
    for tag, expected in EXPECTED.items():
        found = run.Scalars(tag)
        assert [event.step for event in found] == [step for step, _ in expected], tag
        for event, (_, value) in zip(found, expected):
            assert abs(event.value - value) < 1e-6 and event.wall_time == 1_700_000_000.5, event
    content = run.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    assert start.hparams["rank"].number_value == 4
    assert start.hparams["schedule"].string_value == "cosine"
    assert start.hparams["use_rslora"].bool_value is True
    assert start.start_time_secs == 1_700_000_000.5
    print("ok: TensorBoard reads", GOLDEN.name)


if __name__ == "__main__":
    main()
