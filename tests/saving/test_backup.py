"""Training that is killed and goes on gives the numbers of one that was not."""

import json
import multiprocessing
import runpy
import time
from pathlib import Path

import numpy as np
import pytest

import recurrax as rx
from recurrax.saving import LoadError

# Imported once, before processes are made of it; it starts no thread of JAX's.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["recurrax"])


def started(folder, *arguments):
    folder.mkdir(exist_ok=True)
    process = CONTEXT.Process(
        target=runpy.run_path,
        args=(str(Path(__file__).with_name("interrupted.py")),),
        kwargs={"init_globals": {"ARGUMENTS": (str(folder), *arguments)}, "run_name": "__main__"},
    )
    process.start()
    return process


def result(folder):
    return json.loads((folder / "result").read_text())


def killed_and_resumed(folder, kills, seed, *arguments):
    """Kill a training `kills` times at random moments of it, and let it end; how often it was."""
    rng = np.random.default_rng(seed)
    sign, done = folder / "under way", 0
    while not (folder / "result").exists():
        sign.unlink(missing_ok=True)
        process = started(folder, True, *arguments)
        if done < kills:
            while process.is_alive() and not sign.exists():
                time.sleep(0.002)
            process.join(rng.uniform(0, 0.15))
            done += process.is_alive()
            process.kill()
        process.join()
        assert process.exitcode in (0, -9)
    return done


@pytest.mark.parametrize("steps_per_epoch", [None, 4])
def test_a_training_killed_at_random_moments_gives_the_same_numbers(tmp_path, steps_per_epoch):
    kills = 3
    reference = started(tmp_path / "whole", False, steps_per_epoch)
    (tmp_path / "broken").mkdir()
    done = killed_and_resumed(tmp_path / "broken", kills, 0, steps_per_epoch)
    reference.join()
    assert done >= 1
    assert result(tmp_path / "broken") == result(tmp_path / "whole")
    assert not (tmp_path / "broken" / "backup" / "backup.zip").exists()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_fifty_kills(tmp_path):
    reference = started(tmp_path / "whole", False)
    reference.join()
    done = 0
    for seed in range(100):
        folder = tmp_path / f"broken{seed}"
        folder.mkdir()
        done += killed_and_resumed(folder, 5, seed)
        assert result(folder) == result(tmp_path / "whole")
        if done >= 50:
            return
    raise AssertionError(f"only {done} kills hit a training under way")


def fitted(folder, units=3, **options):
    model = rx.Sequential([rx.Input((2,)), rx.layers.Dense(units)])
    model.compile("adam", "mse")

    class Stop(rx.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    backup = rx.callbacks.BackupAndRestore(folder, save_freq=2)
    x = np.ones((12, 2), "float32")
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, np.ones((12, units)), 2, callbacks=[backup, Stop()], verbose=0, **options)
    return model


def test_a_backup_of_another_model_or_a_damaged_one_is_refused(tmp_path):
    fitted(tmp_path)
    with pytest.raises(LoadError, match="nothing was changed"):
        model = rx.Sequential([rx.Input((2,)), rx.layers.Dense(5)])
        model.compile("adam", "mse")
        backup = rx.callbacks.BackupAndRestore(tmp_path)
        model.fit(np.ones((4, 2)), np.ones((4, 5)), callbacks=[backup], verbose=0)
    data = bytearray((tmp_path / "backup.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "backup.zip").write_bytes(data)
    model = rx.Sequential([rx.Input((2,)), rx.layers.Dense(3)])
    model.compile("adam", "mse")
    with pytest.raises(LoadError, match="checksum"):
        model.fit(
            np.ones((4, 2)),
            np.ones((4, 3)),
            callbacks=[rx.callbacks.BackupAndRestore(tmp_path)],
            verbose=0,
        )


def test_a_wrong_save_freq_is_refused(tmp_path):
    for bad in (0, "batch", 1.5):
        with pytest.raises(ValueError, match="save_freq"):
            rx.callbacks.BackupAndRestore(tmp_path, save_freq=bad)
