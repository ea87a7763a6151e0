"""The command `python -m benchmarks.scaling_model`: the exact step on 8 to 1,024 GPUs, on paper.

Nothing is measured: the numbers follow from the `Assumptions`. docs/scaling.md explains them.
"""

import math
import sys
from typing import NamedTuple

from absl import flags

from benchmarks import report
from metastyle_jax.core import checks, command_line

USAGE = """Estimates the time of one exact meta-step on many GPUs, one style for each GPU.

  python -m benchmarks.scaling_model
  python -m benchmarks.scaling_model --step=9
"""
DEVICES = (8, 16, 32, 64, 128, 256, 512, 1024)


class Assumptions(NamedTuple):
    """Numbers of an NVIDIA DGX H100, and of one step.

    Attributes:
        step: seconds in which one GPU computes the gradient of one style.
        gradient: bytes of the mean gradient, with the metrics; counted by `benchmarks.scaling`.
        inside: bytes a second that a GPU sends to another one in its machine: 900 GB/s in both
            directions together (NVIDIA's data sheet of the H100 SXM).
        outside: bytes a second that a GPU sends to another machine: one ConnectX-7 of 400 Gbit/s
            for each GPU (NVIDIA's data sheet of the DGX H100).
        message: seconds until a message has arrived; an assumption, larger than on a good network.
        machine: GPUs of a machine.
        cores: processor cores of a machine (two Intel Xeon Platinum 8480C).
        pictures: pictures that one step needs for each style: T + 1 batches of four contents, and
            the style.
        decoded: pictures a second that one core decodes and crops, or more: a training run used
            450, which 15 processes decoded.
    """

    step: float = 0.033
    gradient: float = 6.72e6
    inside: float = 450e9
    outside: float = 50e9
    message: float = 5e-6
    machine: int = 8
    cores: int = 112
    pictures: int = 9
    decoded: float = 30.0


class Estimate(NamedTuple):
    """A step on D devices.

    Attributes:
        devices: D.
        exchange: seconds of the mean of `sharding.mean`: an all-to-all and an all-gather, in which
            each device sends a message to each other one.
        tree: seconds of a mean first inside each machine and then, along a tree, between machines.
        efficiency: share of the time in which the devices compute, with `exchange`.
        tree_efficiency: the same with `tree`.
        cores: processor cores of each machine that decode pictures as fast as they are used.
    """

    devices: int
    exchange: float
    tree: float
    efficiency: float
    tree_efficiency: float
    cores: float


def estimate(devices: int, given: Assumptions) -> Estimate:
    """Estimates one step.

    Args:
        devices: D, a multiple of the GPUs of a machine, or fewer.
        given: the assumptions.
    """
    inner = min(devices, given.machine)
    machines = devices // inner
    # Each device sends G / D to each of the others, twice. The slower of the two networks decides.
    part = given.gradient / devices
    times = (part * (inner - 1) / given.inside, part * (devices - inner) / given.outside)
    exchange = 2 * ((devices - 1) * given.message + max(times))
    # Reduce-scatter inside each machine; one eighth of the sum goes up and down a tree; all-gather.
    within = 2 * ((inner - 1) * given.message + given.gradient * (inner - 1) / inner / given.inside)
    share = given.gradient / inner
    between = 2 * math.ceil(math.log2(machines)) * given.message + 2 * share / given.outside
    tree = within + (between if machines > 1 else 0.0)
    used = given.pictures * inner / (given.step + exchange)
    return Estimate(
        devices,
        exchange,
        tree,
        given.step / (given.step + exchange),
        given.step / (given.step + tree),
        used / given.decoded,
    )


def render(given: Assumptions) -> str:
    """Returns the estimates as a Markdown table."""
    head = (
        'GPUs', 'styles a step', 'exchange', 'efficiency', 'exchange by a tree', 'efficiency',
        'cores to decode', 'cores there',
    )  # fmt: skip
    rows = [
        (
            str(found.devices), str(found.devices),
            f'{1e3 * found.exchange:.2f} ms', f'{found.efficiency:.2f}',
            f'{1e3 * found.tree:.2f} ms', f'{found.tree_efficiency:.2f}',
            report.number(found.cores), str(given.cores),
        )
        for found in (estimate(devices, given) for devices in DEVICES)
    ]  # fmt: skip
    return report.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags."""
    flags.DEFINE_float(
        'step', 33.0, 'Milliseconds for the gradient of one style.', flag_values=values
    )
    flags.DEFINE_float(
        'message', 5.0, 'Microseconds until a message has arrived.', flag_values=values
    )


def main(values: flags.FlagValues) -> None:
    """Prints the table."""
    checks.real_number('--step', values.step, above=0)
    checks.real_number('--message', values.message, least=0)
    print(render(Assumptions(step=values.step / 1e3, message=values.message / 1e6)))


if __name__ == '__main__':
    sys.exit(
        command_line.run_command(
            main, define_flags, command='benchmarks.scaling_model', usage=USAGE
        )
    )
