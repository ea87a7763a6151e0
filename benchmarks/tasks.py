"""The measurements: a `Task` is one row; `quick` and `full` return tables of tasks.

This module imports neither JAX nor PyTorch, so every worker process can read its task.
"""

from typing import NamedTuple

WORKS = ('stylize', 'adapt', 'exact', 'first', 'pipeline')
OURS = ('ours', 'kept', 'reverse', 'rolled', 'unrolled')
PEERS = ('eager', 'malloc', 'channels_last', 'compile', 'func')
LAST = 'compile_func'  # PyTorch takes long to compile it, so only one task measures it
EVERY = (*OURS, *PEERS, LAST)
CONTENTS = 4  # content images for each style, and in a batch of adaptation: as in the paper
# Rate δ of the inner steps; times do not depend on it. The paper's 1e-4 moves an untrained θ so far
# that float32 rounding changes the meta-gradient by some percent: two correct programs would differ
# as much as a correct and a wrong one. With this rate they agree to 0.2 %, while the second-order
# part is 0.7 % (T = 1) to 3 % (T = 4) of the meta-gradient.
RATE = 1e-7
# (Styles, inner steps) of the meta-steps on a CPU; one of the other steps would take minutes there.
_ON_CPU = ((1, 1), (1, 2), (1, 4), (1, 8), (4, 1))
_FEW = ((1, 1), (1, 4))
_LARGE = 12 * 2**30  # bytes of free memory that a batch of eight images of 1024² needs


class Network(NamedTuple):
    """Sizes of the transformer and of the loss network.

    Attributes:
        width: number of channels of the transformer's first layer.
        blocks: number of its residual blocks.
        vgg_width: number of channels of the first layer of a random loss network; 0 for VGG-16.
    """

    width: int = 32
    blocks: int = 5
    vgg_width: int = 0


STANDARD = Network()


class Task(NamedTuple):
    """One measurement; all its variants compute the same.

    Attributes:
        work: one of `WORKS`. 'exact' and 'first' are meta-steps with that meta-gradient.
        size: height and width of content images and style images.
        batch: number of images in a batch; for a meta-step, of content images for each style.
        variants: some of `EVERY`. 'ours' comes first; the others are compared with it.
        styles: number of styles of a meta-step, S.
        steps: number of inner steps of a meta-step, T.
        params: parameters that the inner steps move, 'all' or 'norm'.
        rate: rate of the inner steps.
        dtype: type of parameters and images; 'bfloat16' only for stylization.
        network: sizes of the two networks.
    """

    work: str
    size: int
    batch: int
    variants: tuple[str, ...]
    styles: int = 1
    steps: int = 1
    params: str = 'all'
    rate: float = RATE
    dtype: str = 'float32'
    network: Network = STANDARD

    @property
    def name(self) -> str:
        """Name of the task in tables, file names and messages."""
        if self.work == 'stylize':
            dtype = '' if self.dtype == 'float32' else f', {self.dtype}'
            return f'stylize {self.size}², batch {self.batch}{dtype}'
        if self.work == 'adapt':
            return f'adaptation step {self.size}², batch {self.batch}'
        if self.work == 'pipeline':
            return f'pipeline {self.size}²'
        return (
            f'{self.work} {self.params}, S={self.styles}, T={self.steps}, '
            f'N={self.batch}, {self.size}²'
        )


def from_dict(fields: dict) -> Task:
    """Builds a task from the dict of `as_dict`."""
    fields = fields | {
        'variants': tuple(fields['variants']),
        'network': Network(**fields['network']),
    }
    return Task(**fields)


def as_dict(task: Task) -> dict:
    """Returns a task as a dict of JSON types."""
    return task._asdict() | {'network': task.network._asdict()}


def quick(*, size: int = 0) -> list[Task]:
    """Returns a small table with every kind of work; it takes less than five minutes on two cores.

    Args:
        size: height and width of the images of meta-steps; 0 for the sizes written here.
    """
    both = ('ours', 'eager')
    meta, small = size or 64, size or 32
    return [
        Task('stylize', 256, 1, both),
        Task('adapt', 64, CONTENTS, both),
        Task('exact', meta, CONTENTS, both),
        Task('exact', small, CONTENTS, both, steps=4),
        Task('first', small, CONTENTS, both),
        *[Task('exact', small, 2, ('rolled',), steps=T) for T in (1, 8)],
        Task('pipeline', small, CONTENTS, ('ours',)),
    ]


def full(*, gpu: bool, free: int = 0, size: int = 0) -> list[Task]:
    """Returns the full table: the paper's size on a GPU, fewer and smaller meta-steps on a CPU.

    Args:
        gpu: whether the machine has a GPU.
        free: bytes of free memory; on a CPU the largest stylization needs 12 GiB.
        size: height and width of the images of meta-steps; 0 for the sizes written here.
    """
    everyone = ('ours', *PEERS)
    plain = tuple(name for name in everyone if name != 'malloc')  # stylizing frees nothing
    meta = size or (256 if gpu else 64)
    table = [Task('stylize', side, 1, plain) for side in (256, 512, 1024)]
    sides = (256, 512, 1024) if gpu or free > _LARGE else (256, 512)
    table += [Task('stylize', side, 8, plain) for side in sides]
    if gpu:
        table.append(Task('stylize', 256, 32, plain, dtype='bfloat16'))
    table.append(Task('adapt', 256, CONTENTS, everyone))
    table += [
        _meta_step(work, params, styles, steps, meta, gpu=gpu)
        for work in ('exact', 'first')
        for params in ('all', 'norm')
        for styles in (1, 4)
        for steps in (1, 2, 4, 8)
        if gpu or (styles, steps) in (_ON_CPU if (work, params) == ('exact', 'all') else _FEW)
    ]
    if not gpu:
        table.append(Task('exact', 2 * meta, CONTENTS, ('ours', 'eager', 'channels_last')))
    table.append(Task('pipeline', meta, CONTENTS, ('ours',)))
    return table


def _meta_step(work: str, params: str, styles: int, steps: int, size: int, *, gpu: bool) -> Task:
    """Returns a meta-step; on a CPU, all variants are measured only with one style and one step."""
    variants: tuple[str, ...] = ('ours', 'eager')
    if gpu or (styles, steps) == (1, 1):
        variants = ('ours', *PEERS)
        if (work, params, styles) == ('exact', 'all', 1):
            variants += ('reverse', LAST) if steps == 1 else ()
            variants += ('kept', 'unrolled') if gpu else ()
    if (work, params, styles) == ('exact', 'all', 1) and (gpu or steps in (1, 8)):
        variants += ('rolled',)
    return Task(work, size, CONTENTS, variants, styles, steps, params)


def select(
    table: list[Task], *, works: tuple[str, ...] = (), variants: tuple[str, ...] = ()
) -> list[Task]:
    """Selects tasks by kind of work, and their variants.

    The variant 'ours' always stays, and so do the variants of a task that would have none left.

    Args:
        table: tasks.
        works: some of `WORKS`; all if empty.
        variants: some of `EVERY`; all if empty.
    """
    wanted = {'ours', *(variants or EVERY)}
    return [
        task._replace(
            variants=tuple(name for name in task.variants if name in wanted) or task.variants
        )
        for task in table
        if not works or task.work in works
    ]
