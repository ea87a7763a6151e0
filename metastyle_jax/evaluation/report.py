"""Adaptation curves as a plot and as a Markdown table."""

import importlib.util
import io
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError

_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
# Steps of an initialization, and of training from scratch that they are compared with, two and two.
_AHEAD = (((10, 200), (100, 1000)), ((10, 1000), (100, 10_000)))
_LAYERS = ('relu1_2', 'relu2_2', 'relu3_3', 'relu4_3')
_AXES = {'steps': 'steps of adaptation', 'seconds': 'seconds of adaptation'}


def require() -> None:
    """Raises UserError, naming the extra, where the plotting library is missing."""
    if importlib.util.find_spec('matplotlib') is None:
        raise UserError("plots need matplotlib: pip install 'metastyle_jax[evaluate]'")


def quartiles(results: dict[str, Any], name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and `[3, steps]`: first quartile, median and third quartile over styles.

    Args:
        results: of `evaluate.evaluate`.
        name: of an initialization.
        part: 'total', 'content', 'style' or 'seconds'.
    """
    found = [entry['curves'][name] for entry in results['styles']]
    values = np.array([curve[part] for curve in found])
    return np.array(found[0]['steps']), np.quantile(values, (0.25, 0.5, 0.75), axis=0)


def table(results: dict[str, Any]) -> str:
    """Median total loss, with quartiles, by initialization and step; and Gatys et al."""
    settings, count = results['settings'], len(results['styles'])
    curves = {name: quartiles(results, name, 'total') for name in results['thetas']}
    steps = sorted({int(step) for found, _ in curves.values() for step in found})
    lines = [
        f'Median total loss (quartiles) of {count} styles on {results["contents"]} contents that '
        f'were not adapted on, {settings["size"]}², batch {settings["batch"]}, '
        f"{_rates(results)}, '{settings['params']}', {results['device']}.",
        '',
        '| steps | ' + ' | '.join(curves) + ' |',
        '|---' * (1 + len(curves)) + '|',
    ]
    for step in steps:
        cells = []
        for found, values in curves.values():
            at = values[:, found == step]
            low, middle, high = map(_three, at[:, 0]) if at.size else ('', '', '')
            cells.append(f'{middle} ({low}–{high})' if middle else '')
        lines.append(f'| {step} | ' + ' | '.join(cells) + ' |')
    if any('quality' in entry for entry in results['styles']):
        lines += ['', *_quality_lines(results)]
    lines += ['', *_layer_lines(results)]
    lines += ['', *_comparison_lines(results)]
    if any('gatys' in entry for entry in results['styles']):
        lines += ['', *_gatys_lines(results)]
    return '\n'.join(lines) + '\n'


def _three(value: float) -> str:
    """Three digits, or all before the point."""
    return f'{value:.0f}' if value >= 100 else f'{value:#.3g}'


def _rates(results: dict[str, Any]) -> str:
    """What each initialization was adapted by."""
    schedule = results['settings']['schedule']
    each = (
        f'{name}: Adam {rate:g} ({"constant" if name == "random" else schedule})'
        for name, rate in results['rates'].items()
    )
    return ', '.join(each)


def _quality_lines(results: dict[str, Any]) -> list[str]:
    """A table of likeness to the content, medians over styles."""
    entries = [entry['quality'] for entry in results['styles'] if 'quality' in entry]
    lines = [
        f'Likeness to the content at {results["settings"]["size"]}², medians.',
        '',
        '| initialization, steps | LPIPS (0 is the same) | SSIM (1 is the same) |',
        '|---|---|---|',
    ]
    for name, by_step in entries[0].items():
        for step in by_step:
            found = [entry[name][step] for entry in entries]
            lpips, ssim = (np.median([each[key] for each in found]) for key in ('lpips', 'ssim'))
            lines.append(f'| {name}, {step} | {lpips:.3f} | {ssim:.3f} |')
    return lines


def _layer_lines(results: dict[str, Any]) -> list[str]:
    """A table of the style loss layer by layer, medians over styles."""
    lines = [
        'Style loss of each layer, medians.',
        '',
        f'| initialization, steps | {" | ".join(_LAYERS)} |',
        '|---' * (1 + len(_LAYERS)) + '|',
    ]
    for name in results['thetas']:
        found = [entry['curves'][name] for entry in results['styles']]
        for place, step in enumerate(found[0]['steps']):
            layers = np.median([curve['style_layers'][place] for curve in found], axis=0)
            lines.append(f'| {name}, {step} | ' + ' | '.join(f'{x:.2f}' for x in layers) + ' |')
    return lines


def _comparison_lines(results: dict[str, Any]) -> list[str]:
    """How far initializations are ahead of a network from scratch, and of feature matching."""
    entries, lines = results['styles'], []
    for name in results['thetas']:
        if name == 'random':
            continue
        for pair in _AHEAD:
            lines += _ahead_lines(entries, name, pair)
        ours = [entry['curves'][name] for entry in entries]
        if 'matching' in entries[0] and 10 in ours[0]['steps']:
            found = [entry['matching']['total'] for entry in entries]
            wins = [_at(a, 10) < b for a, b in zip(ours, found, strict=True)]
            lines.append(
                f'- {name} after 10 steps is lower than feature matching '
                f'(median {_three(np.median(found))}): {sum(wins)} of {len(wins)} styles.'
            )
    return lines


def _ahead_lines(
    entries: list[dict[str, Any]], name: str, pair: tuple[tuple[int, int], ...]
) -> list[str]:
    """An initialization beside a network from scratch after more steps, total loss over loss."""
    lines, wins = [], []
    for steps, others in pair:
        curves = [(entry['curves'][name], entry['curves'].get('random')) for entry in entries]
        ours, random = curves[0]
        if random is None or steps not in ours['steps'] or others not in random['steps']:
            continue
        ratios = np.array([_at(a, steps) / _at(b, others) for a, b in curves])
        wins.append(ratios <= 1)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        lines.append(
            f'- {name} after {steps} steps over random after {others}: {middle:.2f} ({low:.2f} to '
            f'{high:.2f}); no higher on {wins[-1].sum()} of {len(ratios)} styles.'
        )
    if len(wins) == 2:
        both = wins[0] & wins[1]
        lines.append(f'- Both hold on {both.sum()} of {len(both)} styles.')
    return lines


def _at(curve: dict[str, Any], step: int) -> float:
    """The total loss at a step."""
    return curve['total'][curve['steps'].index(step)]


def _gatys_lines(results: dict[str, Any]) -> list[str]:
    """A table of L-BFGS on one content of each style."""
    found = [entry['gatys'] for entry in results['styles'] if 'gatys' in entry]
    iterations = len(found[0]['content']['losses']) - 1
    lines = [
        f'Gatys et al., {iterations} iterations of L-BFGS on one of the contents, medians.',
        '',
        '| start | loss before | loss after | seconds | iterations to the end of "content" |',
        '|---|---|---|---|---|',
    ]
    for name in found[0]:
        runs = [(np.array(each[name]['losses']), each) for each in found]
        reached = [_first_below(loss, each['content']['losses'][-1]) for loss, each in runs]
        cells = (
            np.median([loss[0] for loss, _ in runs]),
            np.median([loss[-1] for loss, _ in runs]),
            np.median([each[name]['seconds'][-1] for each in found]),
        )
        within = [n for n in reached if n is not None]
        shown = f'{np.median(within):.0f} ({len(within)} of {len(found)})' if within else 'never'
        lines.append(f'| {name} | ' + ' | '.join(f'{c:.1f}' for c in cells) + f' | {shown} |')
    return lines


def _first_below(loss: np.ndarray, bound: float) -> int | None:
    """The first iteration at which a loss is no higher than a bound."""
    below = np.flatnonzero(loss <= bound)
    return int(below[0]) if below.size else None


def plot(results: dict[str, Any]) -> bytes:
    """Total, content and style loss against steps and against seconds, as PNG."""
    require()
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(12, 7), layout='constrained')
    axes = figure.subplots(2, 3)
    for row, (axis, label) in enumerate(_AXES.items()):
        for column, part in enumerate(('total', 'content', 'style')):
            ax = axes[row, column]
            for name, colour in zip(results['thetas'], _COLOURS * 9, strict=False):
                steps, (low, middle, high) = quartiles(results, name, part)
                x = steps if axis == 'steps' else quartiles(results, name, 'seconds')[1][1]
                ax.plot(x, middle, color=colour, label=name, marker='o', markersize=3)
                ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.set_xscale('symlog', linthresh=1)
            ax.set_xlim(left=0)
            ax.xaxis.set_major_formatter('{x:g}')
            ax.set_yscale('log')
            ax.set_xlabel(label)
            ax.set_ylabel(f'{part} loss, median and quartiles')
            ax.grid(alpha=0.3)
    axes[0, 0].legend()
    settings = results['settings']
    figure.suptitle(
        f'{len(results["styles"])} styles, {results["contents"]} held-out contents, '
        f'{settings["size"]}², {results["device"]}'
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()
