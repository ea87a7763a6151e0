"""Counting of operations and bytes on several devices."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from helpers import ROOT

from metastyle_jax.core import errors
from metastyle_jax.core.devices import sharding

sys.path.insert(0, str(ROOT))

from benchmarks import collectives, flops, scaling, scaling_model, tasks  # noqa: E402

NETWORK = tasks.Network(4, 1, 2)


@pytest.mark.parametrize('devices', [2, 4])
def test_the_mean_over_devices_sends_two_gradients(devices):
    def step(params, batch):
        return sharding.mean({'a': batch.sum(0) * params, 'b': batch.sum()})

    run = sharding.spread(step, shared=1, devices=devices)
    params = sharding.replicate(jnp.ones(63), devices)
    hlo = run.lower(params, np.ones((devices, 63), np.float32)).compile().as_text()
    found = collectives.find(hlo)
    assert {each.name for each in found} == {'all-to-all', 'all-gather'}
    assert [each.size for each in found] == [256, 256]  # 64 numbers
    assert collectives.sent(found, devices) == 2 * 256 * (devices - 1) / devices


def test_collectives_are_found_in_each_form_of_a_program():
    hlo = """
      %a = f32[8]{0} all-reduce(%x), replica_groups={{0,1}}
      %b = (f32[2,3]{1,0}, bf16[4]{0}) all-to-all(%y, %z)
      %c = (f32[4]{0}, f32[8]{0}) all-gather-start(%x), dimensions={0}
      %d = f32[8]{0} all-gather-done(%c)
      %e = f32[2]{0} reduce-scatter(%x)
      %f = f32[] add(%x, %all-reduce)
    """
    found = collectives.find(hlo)
    assert [(each.name, each.size) for each in found] == [
        ('all-reduce', 32), ('all-to-all', 32), ('all-gather', 32), ('reduce-scatter', 8),
    ]  # fmt: skip
    assert collectives.sent(found, 4) == (2 * 32 + 32 + 32 + 4 * 8) * 3 / 4


def test_one_device_needs_about_the_operations_of_the_formulas_and_sends_nothing():
    row = scaling.count(1, 1, 16, NETWORK, 'strong')
    task = tasks.Task('exact', 16, tasks.CONTENTS, (), network=NETWORK)
    assert 0.5 < row.operations / flops.needed(task) < 2
    assert row.sent == 0
    assert row.batch > 9 * 16 * 16 * 3


def test_the_table_has_strong_and_weak_scaling(monkeypatch):
    def count(devices, styles, size, network, scaling_name):
        found = (collectives.Collective('all-gather', 10**6),) if devices > 1 else ()
        sent = collectives.sent(found, devices)
        return scaling.Row(scaling_name, devices, styles, 1e9 * styles / devices, sent, found, 5)

    monkeypatch.setattr(scaling, 'count', count)
    text = scaling.render(scaling.rows(16, NETWORK))
    assert '| strong | 4 | 8 | 2 | 0.2500 | 0.75 |' in text
    assert '| weak | 8 | 8 | 1 | 1.0000 | 0.875 |' in text
    assert text.count('all-gather 1 MB') == 6


def test_virtual_devices_are_added_to_the_flags_of_the_user():
    environment = {'XLA_FLAGS': '--xla_mine=1'}
    scaling.set_up_devices(environment)
    assert environment['XLA_FLAGS'].startswith('--xla_mine=1 --xla_force_host_platform_device')
    assert environment['JAX_PLATFORMS'] == 'cpu'


def test_sizes_that_are_too_small_are_refused():
    values = flags.FlagValues()
    scaling.define_flags(values)
    values(['benchmarks.scaling', '--size=8'])
    with pytest.raises(errors.UserError, match='--size=8'):
        scaling.main(values)


def test_there_are_enough_virtual_devices():
    assert jax.device_count() >= scaling.DEVICES[-1]


def test_on_paper_one_machine_needs_no_second_network():
    given = scaling_model.Assumptions(message=0.0)
    one, two = (scaling_model.estimate(devices, given) for devices in (8, 16))
    assert one.exchange == pytest.approx(2 * given.gradient * 7 / 8 / given.inside)
    assert one.tree == pytest.approx(one.exchange)
    assert two.exchange == pytest.approx(2 * given.gradient * 8 / 16 / given.outside)


def test_on_paper_messages_limit_many_devices_but_not_a_tree():
    found = [scaling_model.estimate(d, scaling_model.Assumptions()) for d in scaling_model.DEVICES]
    assert all(a.efficiency >= b.efficiency for a, b in itertools.pairwise(found))
    assert found[-1].efficiency < 0.8 < 0.99 < found[-1].tree_efficiency
    text = scaling_model.render(scaling_model.Assumptions())
    assert '| 1024 | 1024 | 10.50 ms | 0.76 |' in text


@pytest.mark.parametrize('word', ['--step=0', '--message=-1'])
def test_senseless_assumptions_are_refused(word):
    values = flags.FlagValues()
    scaling_model.define_flags(values)
    values(['benchmarks.scaling_model', word])
    with pytest.raises(errors.UserError, match=word.split('=')[0]):
        scaling_model.main(values)
