"""The results of `metastyle poster` as Markdown tables."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metastyle_jax.baselines import systems
from metastyle_jax.evaluation.poster import published
from metastyle_jax.evaluation.poster.config import PEER

# Systems whose published times differ by a smaller factor count as equally fast: the poster gives
# 0.0044, 0.0045 and 0.0047 s for the same network.
_EQUAL = 1.1


def render(results: Mapping[str, Any]) -> str:
    """Returns all tables of `results.json`.

    Args:
        results: the machine, the settings, 'times' by size and 'quality', see `poster.run`.
    """
    machine, settings = results['machine'], results['settings']
    parts = [
        f'{machine["device"]}, {machine["cores"]} cores, JAX {machine["jax"]}, '
        f'{results["date"]}; float32 products: {settings["precision"]}. '
        'Batch 1, warm; medians (quartiles) in seconds.'
    ]
    for size, times in results['times'].items():
        parts += [f'## {size} × {size} pixels', _time_table(times, int(size), results)]
        parts.append(order_text(times, int(size)))
    parts.append('\n'.join(_notes(results)))
    if results.get('quality'):
        parts += [
            f'## Quality at {settings["size"]} × {settings["size"]} pixels',
            _quality_intro(results),
            _quality_table(results['quality']),
        ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _time_table(times: Mapping[str, Any], size: int, results: Mapping[str, Any]) -> str:
    """Makes the table of one size."""
    lines = [
        '| system | parameters | on the poster | styles | for a style (s) | for a picture (s) '
        '| × MetaStyle | on the poster (s) | × MetaStyle | memory (MiB) |',
        '|---' * 10 + '|',
    ]
    own = times.get('metastyle', {}).get('picture')
    for name, entry in times.items():
        row = published.ROWS.get(name)
        count = results['counts'].get(name)
        cells = [
            name,
            f'{count:,}' if count else '–',
            f'{row.parameters:.2f} M' if row and row.parameters else '–',
            row.styles if row else '∞',
        ]
        if 'reason' in entry:
            cells += [entry['reason'], '', '']
        else:
            middle = np.median(entry['picture']) if 'picture' in entry else None
            cells += [
                ('≈ ' if name == 'johnson' else '') + seconds(entry.get('style')),
                seconds(entry.get('picture')),
                number(middle / np.median(own)) if own and middle is not None else '–',
            ]
        ratio = published.ratio(name, size) if row else None
        cells += [
            f'{row.seconds[size]:.4f}' if row and size in row.seconds else '–',
            '–' if ratio is None else number(ratio),
            f'{entry["memory"] / 2**20:,.0f}' if entry.get('memory') else '–',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def seconds(values: Sequence[float] | None) -> str:
    """Formats times as a median with quartiles, or a single time; '–' if there is none."""
    if not values:
        return '–'
    low, middle, high = map(number, np.quantile(values, (0.25, 0.5, 0.75)))
    return middle if len(values) == 1 else f'{middle} ({low}–{high})'


def number(value: float) -> str:
    """Formats a number with three significant digits, or as a whole number from 100 on."""
    return f'{value:,.0f}' if value >= 100 else f'{value:#.3g}'


def order_text(times: Mapping[str, Any], size: int) -> str:
    """Lists the pairs of systems whose order by speed differs from the poster."""
    measured = {
        name: float(np.median(entry['picture']))
        for name, entry in times.items()
        if entry.get('picture') and size in getattr(published.ROWS.get(name), 'seconds', ())
    }
    if len(measured) < 2:
        return ''
    swapped = []
    for a, b in itertools.permutations(measured, 2):
        theirs = published.ROWS[b].seconds[size] / published.ROWS[a].seconds[size]
        if theirs > _EQUAL and measured[a] > measured[b]:
            swapped.append(f'{a} is faster than {b} on the poster, slower here')
    if not swapped:
        return 'The systems have the same order by speed as on the poster.'
    return f'The order differs from the poster: {"; ".join(swapped)}.'


def _notes(results: Mapping[str, Any]) -> list[str]:
    """Explains the columns, and the counts of parameters."""
    settings = results['settings']
    lines = [
        '- "For a style" is the time to encode a new style image. For MetaStyle, it is the time of '
        'the adaptation with the defaults of `metastyle adapt`; for johnson, of the training, '
        'extrapolated from a few steps.',
        f'- gatys: {settings["gatys_iterations"]} iterations, starting from the photograph.',
        '- "Memory" is that of the arguments, results and temporary arrays of the compiled program '
        'for a picture.',
        f'- The encoder of adain, wct, avatar-net and style-swap is {settings["encoder"]}.',
    ]
    lines += [f'- {name}: {text}' for name, text in results['footnotes'].items() if text]
    if any(PEER in times for times in results['times'].values()):
        lines.append(
            f'- {PEER} computes at 384 × 384 pixels at every size, and encodes the style again for '
            'each picture.'
        )
    return lines


def _quality_intro(results: Mapping[str, Any]) -> str:
    """Explains the table of quality."""
    settings = results['settings']
    return (
        f'Medians over {settings["styles"]} style images of means over {settings["contents"]} '
        'photographs. The losses are those of `metastyle adapt`. Only gatys, johnson and metastyle '
        'minimize them. "Share" is the style loss divided by that of the photographs before '
        'stylization. LPIPS and SSIM compare the pictures with the photographs.'
    )


def _quality_table(quality: Mapping[str, Any]) -> str:
    """Makes the table of quality."""
    lines = [
        '| system | total loss | content loss | style loss | share | LPIPS | SSIM '
        '| for a style (s) | for a picture (s) | note |',
        '|---' * 10 + '|',
    ]
    for name, entry in quality.items():
        if 'reason' in entry:
            lines.append(f'| {name} |' + ' – |' * 8 + f' {entry["reason"]} |')
            continue
        found = medians(entry)
        cells = [name, *(number(found[part]) for part in ('total', 'content', 'style'))]
        cells += [f'{100 * found["share"]:.1f} %', f'{found["lpips"]:.3f}', f'{found["ssim"]:.3f}']
        cells += [number(found[part]) for part in ('style_seconds', 'picture_seconds')]
        lines.append(f'| {" | ".join([*cells, entry["note"]])} |')
    return '\n'.join(lines)


def medians(entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns the medians over the style images, for each number of a system's quality."""
    styles = entry['styles']
    return {
        part: float(np.median([each[part] for each in styles]))
        for part in styles[0]
        if part != 'name'
    }


def describe(names: Sequence[str], encoder: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the counts of parameters and the footnotes of some systems, as on the poster."""
    takes_encoder = ('adain', 'wct', 'avatar-net', 'style-swap')
    built = {
        name: systems.get(name, **({'encoder': encoder} if name in takes_encoder else {}))
        for name in names
    }
    counts = {name: system.count for name, system in built.items()}
    return counts, {name: system.footnote for name, system in built.items()}
