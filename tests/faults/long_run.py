"""A long run of tiny steps: memory, time of a step, compilations, space on disk.

    python tests/faults/long_run.py                # 2,000 steps
    python tests/faults/long_run.py --steps=60     # what the tests run

Prints a line of JSON. The first tenth of the steps is warm-up; where anything is compiled after it,
memory grows by 2 % or more, or a step gets half as long again, the code is 1.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
from typing import Any, NamedTuple

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
sys.path[:0] = map(str, pathlib.Path(__file__).resolve().parents[1:3])

import fault_runs  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

EVERY = 5  # steps between lines of the log
_COMPILED = '/jax/core/compile/backend_compile_duration'


class Sample(NamedTuple):
    """What is measured at a line of the log."""

    step: int
    resident: int  # bytes
    seconds: float  # of processor time
    checkpoints: int  # bytes on disk
    compiled: int  # programs, so far


def measure(folder: pathlib.Path, steps: int, *changes: str) -> dict[str, Any]:
    """Trains in this process; returns what is to be told."""
    samples: list[Sample] = []
    compiled: list[float] = []

    def hear(event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILED:
            compiled.append(seconds)

    def watch() -> None:
        while True:
            time.sleep(0.02)
            step = _last_step(folder)
            if step and (not samples or step > samples[-1].step):
                used = time.process_time()
                space = _space(folder / 'checkpoints')
                samples.append(Sample(step, _resident(), used, space, len(compiled)))

    jax.monitoring.register_event_duration_secs_listener(hear)
    threading.Thread(target=watch, daemon=True).start()
    fault_runs.narrow_loss_network()
    sys.argv = [
        'metastyle-train', *fault_runs.CONFIG, f'--workdir={folder}', f'--config.steps={steps}',
        f'--config.log.every={EVERY}', f'--config.log.pictures={max(EVERY, steps // 20)}',
        '--config.checkpoint.every=10', *changes,
    ]  # fmt: skip
    assert not fault_runs.command.run_train()
    time.sleep(0.1)
    return _summary(samples, folder)


def _summary(samples: list[Sample], folder: pathlib.Path) -> dict[str, Any]:
    """Compares what came after the warm-up with what came last."""
    last = samples[-1].step
    warm = [sample for sample in samples if sample.step >= last / 10]
    step, resident, seconds = (
        np.array([sample[i] for sample in warm], np.float64) for i in range(3)
    )
    fifth = max(2, len(warm) // 5)

    def per_step(part: slice) -> float:
        return float(np.ptp(seconds[part]) / np.ptp(step[part]))

    log = (folder / 'metrics.jsonl').read_text().splitlines()
    return {
        'steps': last,
        'resident_mib': [round(resident[i] / 2**20, 1) for i in (0, -1)],
        'growth': float(resident[-1] / resident[0] - 1),
        'kib_per_1000_steps': float(np.polyfit(step, resident, 1)[0] * 1000 / 1024),
        'seconds_per_step': [per_step(slice(None, fifth)), per_step(slice(-fifth, None))],
        'compilations_in_warm_up': warm[0].compiled,
        'compilations_after': warm[-1].compiled - warm[0].compiled,
        'checkpoints_kib': [round(max(s.checkpoints for s in warm) / 1024)]
        + [round(warm[-1].checkpoints / 1024)],
        'log_bytes_per_line': len('\n'.join(log)) / len(log),
        'tensorboard_kib': round(_space(folder / 'tensorboard') / 1024),
    }


def _last_step(folder: pathlib.Path) -> int:
    """The last step that is logged, 0 where none is."""
    try:
        with (folder / 'metrics.jsonl').open('rb') as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - 1000))
            return json.loads(opened.read().splitlines()[-1])['step']
    except (OSError, ValueError, IndexError):
        return 0


def _space(folder: pathlib.Path) -> int:
    """Bytes of the files in a folder, some of which may go while they are counted."""
    total = 0
    for top, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(top, file)).st_size
            except FileNotFoundError:
                continue
    return total


def _resident() -> int:
    """Resident bytes of this process."""
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=2000)
    options, changes = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(pathlib.Path(folder, 'run'), options.steps, *changes)
    print(json.dumps(found))
    first, last = found['seconds_per_step']
    # Of few steps, memory and time are noise.
    steady = options.steps < 1000 or (found['growth'] < 0.02 and last < 1.5 * first)
    return int(not steady or found['compilations_after'] > 0)


if __name__ == '__main__':
    sys.exit(main())
