"""The project's goals on an accelerator, and what was measured of them."""

from typing import Any

from benchmarks.accelerator import items
from benchmarks.targets import Target

# (group, name, variant, precision) -> result
Results = dict[tuple[str, str, str, str], dict[str, Any]]


def goals(results: Results, sizes: items.Sizes) -> list[Target]:
    """Returns the goals with their measured values.

    Args:
        results: results of one device that were not failures.
        sizes: sizes of the measurements.
    """
    get = _Lookup(results, sizes)
    one, four = get.meta_step(1), get.meta_step(4)
    size, few, many = sizes.stylize[0], sizes.batches[0], sizes.batches[2]
    picture, pictures = f'stylize {size}², batch {few}', f'stylize {size}², batch {many}'
    adapting = f'adaptation step {sizes.meta}², batch {sizes.contents}'
    step, rate = get.median('exact', one), get.value('rate', 'matrix product', 'ours', 'rate')
    needed = get.value('exact', one, 'ours', 'needed')
    share = needed / (step * rate) if needed and step and rate else None
    latency = get.value('stylize', picture, 'ours', 'latency')
    fastest = min(
        (t for t in (get.median('stylize', pictures, p) for p in items.PRECISIONS) if t),
        default=None,
    )
    five = get.median('learned', 'adaptation of 5 learned steps, warm')
    return [
        Target('exact meta-step, T = 1, over eager', 0.6, get.ratio('exact', one, 'eager')),
        Target(
            'exact meta-step, T = 1, over compiled', 0.9, get.ratio('exact', one, 'compile_func')
        ),
        Target('exact meta-step, T = 4, over eager', 0.5, get.ratio('exact', four, 'eager')),
        Target("hours of 100,000 of the paper's steps", 1.0, step and 1e5 * step / 3600),
        Target('memory of T = 8 over T = 1', 1.3, get.growth()),
        Target('share of matrix rate, exact, T = 1', 0.4, share, at_least=True),
        Target(f'milliseconds of stylizing {size}²', 1.0, latency and 1e3 * latency),
        Target(
            f'pictures/s of {size}², batch {many}', 3000, fastest and many / fastest, at_least=True
        ),
        Target('seconds of 5 learned steps, warm', 0.5, five),
        Target('a step of adaptation over eager', 0.6, get.ratio('adapt', adapting, 'eager')),
        Target(f'stylizing {size}² over eager', 0.7, get.ratio('stylize', picture, 'eager')),
    ]


class _Lookup:
    """Finds numbers in the results; each method returns None for a missing one."""

    def __init__(self, results: Results, sizes: items.Sizes) -> None:
        self._results = results
        self._sizes = sizes

    def meta_step(self, steps: int) -> str:
        """Returns the name of an exact meta-step of all parameters."""
        (name,) = {
            item.name
            for item in items.table(self._sizes)
            if (item.group, item.precision) == ('exact', 'tf32')
            and item.settings['task']['params'] == 'all'
            and item.settings['task']['steps'] == steps
        }
        return name

    def value(self, group: str, name: str, variant: str, field: str) -> float | None:
        return self._results.get((group, name, variant, 'tf32'), {}).get(field)

    def median(self, group: str, name: str, precision: str = 'tf32') -> float | None:
        return (
            self._results.get((group, name, 'ours', precision), {}).get('seconds', {}).get('median')
        )

    def ratio(self, group: str, name: str, variant: str) -> float | None:
        peer = self._results.get((group, name, variant, 'tf32'), {}).get('seconds')
        ours = self.median(group, name)
        return ours / peer['median'] if ours and peer else None

    def growth(self) -> float | None:
        one, eight = (
            self.value('exact', self.meta_step(steps), 'ours', 'memory') for steps in (1, 8)
        )
        return eight / one if one and eight else None
