"""What is measured: one `Task` a row, and the tables of tasks for a quick and a full run.

Nothing here imports JAX or PyTorch, so that every worker process can read its task.
"""

from typing import NamedTuple

WORKS = ('stylize', 'adapt', 'exact', 'first', 'pipeline')
OURS = ('ours', 'reverse', 'rolled', 'unrolled')
PEERS = ('eager', 'channels_last', 'compile', 'func')
LAST = 'compile_func'  # takes PyTorch long to compile: for one task only
EVERY = (*OURS, *PEERS, LAST)
CONTENTS = 4  # contents a style, and photographs of a batch of adaptation: the paper's
# δ of the inner steps, on which no operation depends. The paper's 1e-4 throws a θ that was never
# trained so far that rounding in float32 becomes percents of the meta-gradient: two right programs
# would differ like a right and a wrong one. Here they agree to 0.2%, and the second-order part is
# 1% (T = 1) to 3% (T = 4) of the whole.
RATE = 1e-7
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
        variants: of `EVERY`; 'ours' comes first.
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
        Task('adapt', 128, CONTENTS, both),
        Task('exact', meta, CONTENTS, both),
        Task('exact', meta, CONTENTS, both, steps=4),
        Task('exact', meta, CONTENTS, both, params='norm'),
        Task('first', meta, CONTENTS, both),
        # Memory against T: one photograph is enough to see it, and compiles fastest.
        Task('exact', small, 1, ('ours', 'rolled')),
        Task('exact', small, 1, ('ours', 'rolled'), steps=8),
        Task('pipeline', meta, CONTENTS, ('ours',)),
    ]


def full(*, gpu: bool, free: int = 0, size: int = 0) -> list[Task]:
    """Everything, at the paper's size on a GPU and at 128² for most meta-steps on a CPU.

    Args:
        gpu: whether there is one.
        free: bytes of free memory; on a CPU the largest stylization asks for 12 GiB.
        size: of the meta-steps; 0 for the table's own.
    """
    everyone = ('ours', *PEERS)
    meta = size or (256 if gpu else 128)
    table = [Task('stylize', side, 1, everyone) for side in (256, 512, 1024)]
    sides = (256, 512, 1024) if gpu or free > _LARGE else (256, 512)
    table += [Task('stylize', side, 8, everyone) for side in sides]
    if gpu:
        table.append(Task('stylize', 256, 32, everyone, dtype='bfloat16'))
    table.append(Task('adapt', 256, CONTENTS, everyone))
    table += [
        Task(work, meta, CONTENTS, _variants(work, (S, T), params, gpu), S, T, params)
        for work in ('exact', 'first')
        for params in ('all', 'norm')
        for S in (1, 4)
        for T in (1, 2, 4, 8)
    ]
    if not gpu and not size:
        table.append(Task('exact', 256, CONTENTS, ('ours', 'eager')))
    table.append(Task('pipeline', meta, CONTENTS, ('ours',)))
    return table


def _variants(work: str, shape: tuple[int, int], params: str, gpu: bool) -> tuple[str, ...]:
    """Who runs a meta-step: everyone where one style makes it quick enough."""
    found: tuple[str, ...] = ('ours', 'eager')
    if gpu or shape in ((1, 1), (1, 4)):
        found = ('ours', *PEERS)
    if work == 'exact' and params == 'all':
        if shape in ((1, 1), (1, 8)):
            found += ('reverse', 'rolled', 'unrolled') if gpu else ('reverse', 'rolled')
        if shape == (1, 1):
            found += (LAST,)
    return found


def select(
    table: list[Task], *, works: tuple[str, ...] = (), variants: tuple[str, ...] = ()
) -> list[Task]:
    """The tasks of some works, with some of their variants; 'ours' always stays.

    Args:
        table: tasks.
        works: of `WORKS`; all if empty.
        variants: of `EVERY`; all if empty.
    """
    wanted = {'ours', *(variants or EVERY)}
    return [
        task._replace(variants=tuple(name for name in task.variants if name in wanted))
        for task in table
        if not works or task.work in works
    ]
