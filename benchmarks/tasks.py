"""What is measured: one `Task` a row, and the tables of tasks for a quick and a full run.

Nothing here imports JAX or PyTorch, so that every worker process can read its task.
"""

from typing import NamedTuple

WORKS = ('stylize', 'adapt', 'exact', 'first', 'pipeline')
OURS = ('ours', 'kept', 'reverse', 'rolled', 'unrolled')
PEERS = ('eager', 'malloc', 'channels_last', 'compile', 'func')
LAST = 'compile_func'  # takes PyTorch long to compile: for one task only
EVERY = (*OURS, *PEERS, LAST)
CONTENTS = 4  # contents a style, and photographs of a batch of adaptation: the paper's
# δ of the inner steps, on which no operation depends. The paper's 1e-4 throws a θ that was never
# trained so far that rounding in float32 becomes percents of the meta-gradient: two right programs
# would differ like a right and a wrong one. Here they agree to 0.2%, and the second-order part is
# 0.7% (T = 1) to 3% (T = 4) of the whole.
RATE = 1e-7
# Styles and inner steps of the meta-steps on a CPU, where a step of all others takes minutes.
_ON_CPU = ((1, 1), (1, 2), (1, 4), (1, 8), (4, 1))
_FEW = ((1, 1), (1, 4))
_LARGE = 12 * 2**30  # free memory in bytes that 1024² by eight asks for


class Network(NamedTuple):
    """Sizes of the two networks.

    Attributes:
        width: channels of the transformer's first layer.
        blocks: its residual blocks.
        vgg_width: channels of the first layer of a random loss network; 0 for VGG-16 itself.
    """

    width: int = 32
    blocks: int = 5
    vgg_width: int = 0


STANDARD = Network()


class Task(NamedTuple):
    """One measurement, in which all variants do the very same work.

    Attributes:
        work: one of `WORKS`; 'exact' and 'first' are meta-steps of that order.
        size: height and width of contents and styles.
        batch: images of a batch; of a meta-step contents a style.
        variants: of `EVERY`; 'ours' comes first, the others are compared with it.
        styles: S, of a meta-step.
        steps: T, of a meta-step.
        params: 'all' or 'norm', what the inner steps move.
        rate: of the inner steps.
        dtype: of parameters and images; 'bfloat16' for stylization only.
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
        """Names the task in tables, files and messages."""
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
    """Inverse of `as_dict`."""
    fields = fields | {
        'variants': tuple(fields['variants']),
        'network': Network(**fields['network']),
    }
    return Task(**fields)


def as_dict(task: Task) -> dict:
    """What JSON can hold of a task."""
    return task._asdict() | {'network': task.network._asdict()}


def quick(*, size: int = 0) -> list[Task]:
    """A small set that covers every work: under five minutes on two cores.

    Args:
        size: of the meta-steps; 0 for the table's own.
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
    """Everything, at the paper's size on a GPU; on a CPU fewer meta-steps, most of them at 64².

    Args:
        gpu: whether there is one.
        free: bytes of free memory; on a CPU the largest stylization asks for 12 GiB.
        size: of the meta-steps; 0 for the table's own.
    """
    everyone = ('ours', *PEERS)
    plain = tuple(name for name in everyone if name != 'malloc')  # no steps, nothing to keep
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
    """A meta-step by everyone where one style and one inner step make it quick enough."""
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
    """The tasks of some works, with some of their variants; 'ours' and lone ones stay.

    Args:
        table: tasks.
        works: of `WORKS`; all if empty.
        variants: of `EVERY`; all if empty.
    """
    wanted = {'ours', *(variants or EVERY)}
    return [
        task._replace(
            variants=tuple(name for name in task.variants if name in wanted) or task.variants
        )
        for task in table
        if not works or task.work in works
    ]
