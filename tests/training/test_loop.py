"""The training loop, with a fake training step."""

import signal

import jax
import numpy as np
import pytest
from training_helpers import file_config

from metastyle_jax.core import command_line, errors
from metastyle_jax.core.devices import sharding
from metastyle_jax.data import batching
from metastyle_jax.models import vgg
from metastyle_jax.storage import checkpoints
from metastyle_jax.training import loop, outer_step, training_state
from metastyle_jax.training.logs import metric_log


class CountedBatches:
    """Batches whose state is the number of batches so far."""

    def __init__(self):
        self.count = 0

    def __next__(self):
        self.count += 1
        style = np.zeros((1, 16, 16, 3), np.uint8)
        return batching.MetaBatch(None, None, style, *[np.zeros(1, np.int32)] * 3)

    def get_state(self):
        return {'step': self.count}


class Names:
    def name(self, index):
        return f'image {index}'


def run_loop(
    folder,
    monkeypatch,
    *,
    steps,
    every,
    outer_loss,
    stop=None,
    keep_grams=0.0,
    see=lambda batch: None,
):
    """Runs the loop with a fake step of loss `outer_loss(step)`; `see` gets its batches."""
    config = file_config(
        'quickstart.py:tiny', steps=steps, log__every=2, log__pictures=0, checkpoint__every=every,
        checkpoint__keep=10, data__keep_grams=keep_grams, data__style_fit='squash',
    )  # fmt: skip
    network = vgg.random(jax.random.key(1), width=2)

    def step(state, vgg_params, batch):
        see(batch.parts)  # there is one device
        number = int(state.step) + 1
        values = dict.fromkeys(outer_step.StepMetrics._fields, np.float32(outer_loss(number)))
        return state._replace(step=np.int32(number)), outer_step.StepMetrics(**values)

    monkeypatch.setattr(sharding, 'spread', lambda *args, **options: step)
    stop = command_line.Stop() if stop is None else stop
    with checkpoints.Manager(folder / 'checkpoints', keep=10) as manager:
        state = training_state.TrainingState(np.int32(0), {'w': np.zeros(2)}, None, (), np.zeros(2))
        loss_mean, restored = loop.RunningMean(), manager.restore(state)
        if restored:
            state = restored.state
            loss_mean = loop.RunningMean(**restored.data_state['outer_loss'])
        training_loop = loop.TrainingLoop(
            config, folder, network, manager, CountedBatches(), (Names(), Names()), loss_mean
        )
        return training_loop.run(state, stop)


def saved(folder):
    with checkpoints.Manager(folder / 'checkpoints', keep=10) as manager:
        steps = [int(x.name) for x in (folder / 'checkpoints').iterdir() if x.name.isdigit()]
        return sorted(steps), manager.best_step()


def test_a_checkpoint_is_written_only_if_the_next_step_is_finite(tmp_path, monkeypatch):
    with pytest.raises(errors.UserError, match=r'step 5: .*nan.*image 0.*step 2 is kept'):
        run_loop(
            tmp_path, monkeypatch, steps=9, every=2, outer_loss=lambda step: [1, np.nan][step == 5]
        )
    assert saved(tmp_path)[0] == [2]  # not 4, because the next step failed


def test_the_last_step_is_saved_and_only_full_windows_are_ranked(tmp_path, monkeypatch):
    losses = [5, 5, 2, 2, 3, 3, 0]
    code = run_loop(
        tmp_path, monkeypatch, steps=7, every=2, outer_loss=lambda step: losses[step - 1]
    )
    assert code == 0
    assert saved(tmp_path) == ([2, 4, 6, 7], 4)


def test_an_interrupted_run_ranks_checkpoints_like_an_uninterrupted_one(tmp_path, monkeypatch):
    losses = [9, 9, 1, 1, 1, 1, 5, 5, 2, 2, 2, 2]
    for folder, ends in (('whole', [12]), ('stopped', [3, 7, 12])):
        for end in ends:
            run_loop(
                tmp_path / folder,
                monkeypatch,
                steps=end,
                every=4,
                outer_loss=lambda n: losses[n - 1],
            )
    assert saved(tmp_path / 'whole') == ([4, 8, 12], 12)
    assert saved(tmp_path / 'stopped') == ([3, 4, 7, 8, 12], 12)
    for step in ('4', '8', '12'):
        files = [tmp_path / x / 'checkpoints' / step for x in ('whole', 'stopped')]
        ranks = [(file / 'metrics' / 'metrics').read_text() for file in files]
        assert ranks[0] == ranks[1]


def test_a_run_with_more_steps_than_configured_ends_at_once(tmp_path, monkeypatch):
    for steps in (4, 3):
        assert (
            run_loop(tmp_path, monkeypatch, steps=steps, every=2, outer_loss=lambda step: 1.0) == 0
        )
    assert saved(tmp_path)[0] == [2, 4]


def test_an_unwritable_log_ends_the_run_after_saving_a_checkpoint(tmp_path, monkeypatch):
    def fail(self, step):
        raise errors.UserError('no log')

    monkeypatch.setattr(metric_log.MetricLog, 'flush', fail)
    with pytest.raises(errors.UserError, match='no log'):
        run_loop(tmp_path, monkeypatch, steps=9, every=10, outer_loss=lambda step: 1.0)
    assert saved(tmp_path)[0] == [2]


def test_keep_grams_replaces_style_images_by_cached_gram_matrices(tmp_path, monkeypatch):
    seen = []
    options = {'steps': 3, 'every': 10, 'outer_loss': lambda step: 1.0, 'see': seen.append}
    run_loop(tmp_path / 'without', monkeypatch, **options)
    assert all(isinstance(batch, batching.MetaBatch) for batch in seen)
    seen.clear()
    run_loop(tmp_path / 'with', monkeypatch, **options, keep_grams=1.0)
    first, *others = (batch.grams for batch in seen)
    assert [gram.shape[:2] for gram in first] == [(1, 1)] * 4
    for grams in others:
        np.testing.assert_array_equal(grams[3], first[3])


@pytest.mark.parametrize('moment', ['flush', 'add', 'paused'])
def test_a_signal_at_any_time_saves_the_last_step(tmp_path, monkeypatch, moment):
    stop, original, calls = command_line.Stop(), getattr(metric_log.MetricLog, moment), []

    def interrupted(self, *args, **options):
        calls.append(args)
        if len(calls) == 1:
            stop.signal = signal.SIGTERM
        return original(self, *args, **options)

    monkeypatch.setattr(metric_log.MetricLog, moment, interrupted)
    code = run_loop(
        tmp_path, monkeypatch, steps=50, every=10, outer_loss=lambda step: 1.0, stop=stop
    )
    assert code == 128 + signal.SIGTERM
    assert saved(tmp_path)[0] == [2 if moment == 'flush' else 1]
