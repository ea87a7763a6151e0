"""The command `python -m benchmarks.scaling`: what an exact step costs on more devices.

It counts instead of measuring time, so virtual devices of a CPU are enough, and other programs on
the machine do not matter.
"""

import os
import sys
from typing import Any, NamedTuple

from absl import flags

from benchmarks import collectives, report, tasks
from metastyle_jax.core import checks, command_line

USAGE = """Counts operations and bytes of one exact meta-step on 1, 2, 4 and 8 virtual devices.

  python -m benchmarks.scaling

Strong scaling: the same eight styles on more devices. Weak scaling: one style for each device.
"""
DEVICES = (1, 2, 4, 8)
STYLES = 8  # of the strong scaling


class Row(NamedTuple):
    """What one device does in one step.

    Attributes:
        scaling: 'strong' or 'weak'.
        devices: D.
        styles: S, on all devices together.
        operations: floating-point operations, as XLA counts them before it optimizes the program.
        sent: bytes that the device sends to the others.
        exchanges: the collectives of the compiled program.
        batch: bytes of images that the device receives from its host.
    """

    scaling: str
    devices: int
    styles: int
    operations: float
    sent: float
    exchanges: tuple[collectives.Collective, ...]
    batch: int


def count(devices: int, styles: int, size: int, network: tasks.Network, scaling: str) -> Row:
    """Counts one exact meta-step with T = 1 and four contents for each style.

    Args:
        devices: D, at most the number of JAX devices.
        styles: S, a multiple of D.
        size: height and width of all images.
        network: sizes of the networks.
        scaling: 'strong' or 'weak'.
    """
    import functools

    import jax

    from benchmarks import ours
    from metastyle_jax.core.devices import sharding
    from metastyle_jax.training import outer_step

    task = tasks.Task('exact', size, tasks.CONTENTS, (), styles, network=network)
    theta, loss_network = (ours.from_names(part) for part in ours.initial_weights(network))
    runner = ours.MetaStep(task, theta, loss_network)
    state, vgg = sharding.replicate((runner._state, runner._vgg), devices)
    step = functools.partial(outer_step.train_step, config=ours.meta_config(task))
    lower = sharding.spread(step, shared=2, devices=devices).lower  # type: ignore[attr-defined]
    lowered = lower(state, vgg, runner.batch)
    # The styles of a device are unrolled here, so each one counts; XLA counts a loop once.
    operations = lowered.cost_analysis()['flops']
    found = collectives.find(lowered.compile().as_text()) if devices > 1 else []
    batch = sum(leaf.nbytes for leaf in jax.tree.leaves(runner.batch)) // devices
    sent = collectives.sent(found, devices)
    return Row(scaling, devices, styles, operations, sent, tuple(found), batch)


def rows(size: int, network: tasks.Network) -> list[Row]:
    """Counts strong and weak scaling.

    Args:
        size: height and width of all images.
        network: sizes of the networks.
    """
    strong = [count(devices, STYLES, size, network, 'strong') for devices in DEVICES]
    weak = [count(devices, devices, size, network, 'weak') for devices in DEVICES[:-1]]
    return [*strong, *weak, strong[-1]._replace(scaling='weak')]  # eight styles on eight devices


def render(found: list[Row]) -> str:
    """Returns the rows as a Markdown table."""
    head = (
        'scaling', 'devices', 'styles', 'GFLOP a device', 'share of one device',
        'MB sent a device', 'MB of images a device', 'collectives',
    )  # fmt: skip
    first = {row.scaling: row.operations for row in reversed(found)}
    lines = [
        (
            row.scaling, str(row.devices), str(row.styles),
            report.number(row.operations / 1e9),
            f'{row.operations / first[row.scaling]:.4f}',
            report.number(row.sent / 1e6),
            report.number(row.batch / 1e6),
            ', '.join(f'{each.name} {each.size / 1e6:.3g} MB' for each in row.exchanges),
        )
        for row in found
    ]  # fmt: skip
    return report.table(head, lines)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    flags.DEFINE_integer('size', 32, 'Height and width of all images.', flag_values=values)
    flags.DEFINE_integer('width', 32, 'Channels of the first convolution.', flag_values=values)
    flags.DEFINE_integer('blocks', 5, 'Number of residual blocks.', flag_values=values)
    flags.DEFINE_integer('vgg_width', 64, 'Channels of conv1 of the VGG.', flag_values=values)


def main(values: flags.FlagValues) -> None:
    """Prints the table."""
    for name, least in {'size': 16, 'width': 1, 'blocks': 1, 'vgg_width': 1}.items():
        checks.whole_number(f'--{name}', getattr(values, name), least)
    network = tasks.Network(values.width, values.blocks, values.vgg_width)
    print(render(rows(values.size, network)))


def set_up_devices(environment: dict[str, Any] | os._Environ) -> None:
    """Sets up eight virtual devices; must be called before JAX starts."""
    # The counts are those before optimization, so the program may compile quickly.
    wanted = (
        f'--xla_force_host_platform_device_count={DEVICES[-1]} '
        '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
    )
    environment['XLA_FLAGS'] = f'{environment.get("XLA_FLAGS", "")} {wanted}'
    environment['JAX_PLATFORMS'] = 'cpu'


if __name__ == '__main__':
    set_up_devices(os.environ)
    sys.exit(
        command_line.run_command(main, define_flags, command='benchmarks.scaling', usage=USAGE)
    )
