"""Reports an evaluation: Markdown tables of the losses, and a plot of the adaptation curves."""

import importlib.util
import io
from typing import Any

import numpy as np

from metastyle_jax.core.errors import UserError
from metastyle_jax.evaluation.config import RANDOM

_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
# Pairs (steps of an initialization, steps of training from scratch) whose losses are compared. The
# two pairs of one group stand for a speed-up at few steps and at many.
_COMPARED_STEPS = (((10, 200), (100, 1000)), ((10, 1000), (100, 10_000)))
_LAYERS = ('relu1_2', 'relu2_2', 'relu3_3', 'relu4_3')
_X_LABELS = {'steps': 'steps of adaptation', 'seconds': 'seconds of adaptation'}


def require_matplotlib() -> None:
    """Raises UserError if matplotlib is missing; the message says how to install it."""
    if importlib.util.find_spec('matplotlib') is None:
        raise UserError("plots need matplotlib: pip install 'metastyle_jax[evaluate]'")


def quartiles(results: dict[str, Any], name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quartiles over styles of one curve.

    Args:
        results: result of `evaluate.evaluate`.
        name: name of an initialization.
        part: 'total', 'content', 'style' or 'seconds'.

    Returns:
        The K steps at which losses were taken, `[K]`, and first quartile, median and third
        quartile, `[3, K]`.
    """
    curves = [entry['curves'][name] for entry in results['styles']]
    values = np.array([curve[part] for curve in curves])
    return np.array(curves[0]['steps']), np.quantile(values, (0.25, 0.5, 0.75), axis=0)


def markdown_tables(results: dict[str, Any]) -> str:
    """Returns the tables of an evaluation as Markdown.

    Args:
        results: result of `evaluate.evaluate`.

    Returns:
        The total loss of each initialization by step; LPIPS and SSIM; the style loss of each layer;
        comparisons with training from scratch and feature matching; and Gatys et al.
    """
    parts = [_loss_lines(results)]
    if any('quality' in entry for entry in results['styles']):
        parts.append(_quality_lines(results))
    parts += [_layer_lines(results), _comparison_lines(results)]
    if any('gatys' in entry for entry in results['styles']):
        parts.append(_gatys_lines(results))
    return '\n\n'.join('\n'.join(lines) for lines in parts) + '\n'


def _loss_lines(results: dict[str, Any]) -> list[str]:
    """Makes the table of the median total loss, with quartiles, by initialization and step."""
    settings, count = results['settings'], len(results['styles'])
    curves = {name: quartiles(results, name, 'total') for name in results['thetas']}
    all_steps = sorted({int(step) for steps, _ in curves.values() for step in steps})
    lines = [
        f'Median total loss (quartiles) of {count} styles on {results["contents"]} held-out '
        f'contents, {settings["size"]}², batch {settings["batch"]}, '
        f"{_rates(results)}, '{settings['params']}', {results['device']}.",
        '',
        '| steps | ' + ' | '.join(curves) + ' |',
        '|---' * (1 + len(curves)) + '|',
    ]
    for step in all_steps:
        cells = []
        for steps, values in curves.values():
            at_step = values[:, steps == step]
            # Initializations differ in their numbers of steps: some cells stay empty.
            if at_step.size:
                low, middle, high = map(_three_digits, at_step[:, 0])
                cells.append(f'{middle} ({low}–{high})')
            else:
                cells.append('')
        lines.append(f'| {step} | ' + ' | '.join(cells) + ' |')
    return lines


def _three_digits(value: float) -> str:
    """Formats a number with three significant digits, or as a whole number from 100 on."""
    return f'{value:.0f}' if value >= 100 else f'{value:#.3g}'


def _rates(results: dict[str, Any]) -> str:
    """Describes optimizer, learning rate and schedule of each initialization."""
    schedule = results['settings']['schedule']
    return ', '.join(
        f'{name}: {_learned(results, name)}Adam {rate:g} '
        f'({"constant" if name == RANDOM else schedule})'
        for name, rate in results['rates'].items()
    )


def _learned(results: dict[str, Any], name: str) -> str:
    """Describes the learned steps of an initialization, which precede Adam; '' for none."""
    # Results of older versions have no 'learned_steps'.
    steps = results.get('learned_steps', {}).get(name, 0)
    return f'{steps} learned steps, then ' if steps else ''


def _quality_lines(results: dict[str, Any]) -> list[str]:
    """Makes the table of the similarity to the content, as medians over styles."""
    entries = [entry['quality'] for entry in results['styles'] if 'quality' in entry]
    lines = [
        f'Similarity to the content at {results["settings"]["size"]}², medians.',
        '',
        '| initialization, steps | LPIPS (0 is the same) | SSIM (1 is the same) |',
        '|---|---|---|',
    ]
    for name, by_step in entries[0].items():
        for step in by_step:
            measures = [entry[name][step] for entry in entries]
            lpips, ssim = (np.median([each[key] for each in measures]) for key in ('lpips', 'ssim'))
            lines.append(f'| {name}, {step} | {lpips:.3f} | {ssim:.3f} |')
    return lines


def _layer_lines(results: dict[str, Any]) -> list[str]:
    """Makes the table of the style loss of each layer, as medians over styles."""
    lines = [
        'Style loss of each layer, medians.',
        '',
        f'| initialization, steps | {" | ".join(_LAYERS)} |',
        '|---' * (1 + len(_LAYERS)) + '|',
    ]
    for name in results['thetas']:
        curves = [entry['curves'][name] for entry in results['styles']]
        for index, step in enumerate(curves[0]['steps']):
            layers = np.median([curve['style_layers'][index] for curve in curves], axis=0)
            lines.append(f'| {name}, {step} | ' + ' | '.join(f'{x:.2f}' for x in layers) + ' |')
    return lines


def _comparison_lines(results: dict[str, Any]) -> list[str]:
    """Makes the list of comparisons with training from scratch and with feature matching."""
    entries, lines = results['styles'], []
    for name in results['thetas']:
        if name == RANDOM:
            continue
        for pairs in _COMPARED_STEPS:
            lines += _scratch_lines(entries, name, pairs)
        curves = [entry['curves'][name] for entry in entries]
        if 'matching' in entries[0] and 10 in curves[0]['steps']:
            losses = [entry['matching']['total'] for entry in entries]
            wins = [_total_at(a, 10) < b for a, b in zip(curves, losses, strict=True)]
            lines.append(
                f'- {name} after 10 steps is lower than feature matching '
                f'(median {_three_digits(np.median(losses))}): {sum(wins)} of {len(wins)} styles.'
            )
    return lines


def _scratch_lines(
    entries: list[dict[str, Any]], name: str, pairs: tuple[tuple[int, int], ...]
) -> list[str]:
    """Makes lines with the ratio of total losses: an initialization over training from scratch.

    Args:
        entries: results of the styles.
        name: name of the initialization.
        pairs: (steps of the initialization, steps of training from scratch) of each line.
    """
    lines, wins = [], []
    for steps, scratch_steps in pairs:
        curves = [(entry['curves'][name], entry['curves'].get(RANDOM)) for entry in entries]
        ours, scratch = curves[0]
        if scratch is None or steps not in ours['steps'] or scratch_steps not in scratch['steps']:
            continue
        ratios = np.array([_total_at(a, steps) / _total_at(b, scratch_steps) for a, b in curves])
        wins.append(ratios <= 1)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        lines.append(
            f'- {name} after {steps} steps over random after {scratch_steps}: {middle:.2f} '
            f'({low:.2f} to {high:.2f}); no higher on {wins[-1].sum()} of {len(ratios)} styles.'
        )
    if len(wins) == 2:
        both = wins[0] & wins[1]
        lines.append(f'- Both hold on {both.sum()} of {len(both)} styles.')
    return lines


def _total_at(curve: dict[str, Any], step: int) -> float:
    """Returns the total loss of a curve at a step."""
    return curve['total'][curve['steps'].index(step)]


def _gatys_lines(results: dict[str, Any]) -> list[str]:
    """Makes the table of Gatys et al. on one content of each style, by starting image."""
    entries = [entry['gatys'] for entry in results['styles'] if 'gatys' in entry]
    iterations = len(entries[0]['content']['losses']) - 1
    lines = [
        f'Gatys et al., {iterations} iterations of L-BFGS on one of the contents, medians.',
        '',
        '| start | loss before | loss after | seconds | iterations to the end of "content" |',
        '|---|---|---|---|---|',
    ]
    for name in entries[0]:
        curves = [np.array(entry[name]['losses']) for entry in entries]
        # How soon a start is as good as the content image is after all iterations.
        reached = [
            _first_below(curve, entry['content']['losses'][-1])
            for curve, entry in zip(curves, entries, strict=True)
        ]
        cells = (
            np.median([curve[0] for curve in curves]),
            np.median([curve[-1] for curve in curves]),
            np.median([entry[name]['seconds'][-1] for entry in entries]),
        )
        within = [n for n in reached if n is not None]
        shown = f'{np.median(within):.0f} ({len(within)} of {len(entries)})' if within else 'never'
        lines.append(f'| {name} | ' + ' | '.join(f'{c:.1f}' for c in cells) + f' | {shown} |')
    return lines


def _first_below(curve: np.ndarray, bound: float) -> int | None:
    """Returns the index of the first loss that is at most `bound`; None if there is none."""
    below = np.flatnonzero(curve <= bound)
    return int(below[0]) if below.size else None


def plot(results: dict[str, Any]) -> bytes:
    """Plots total, content and style loss against steps and against seconds.

    Args:
        results: result of `evaluate.evaluate`.

    Returns:
        A PNG file: medians over styles as lines, quartiles as bands.

    Raises:
        UserError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(12, 7), layout='constrained')
    axes = figure.subplots(2, 3)
    for row, axis in enumerate(_X_LABELS):
        for column, part in enumerate(('total', 'content', 'style')):
            _plot_curves(axes[row, column], results, axis, part)
    axes[0, 0].legend()
    settings = results['settings']
    figure.suptitle(
        f'{len(results["styles"])} styles, {results["contents"]} held-out contents, '
        f'{settings["size"]}², {results["device"]}'
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def _plot_curves(ax: Any, results: dict[str, Any], axis: str, part: str) -> None:
    """Draws one loss of all initializations into a plot.

    Args:
        ax: axes of matplotlib.
        results: result of `evaluate.evaluate`.
        axis: 'steps' or 'seconds'.
        part: 'total', 'content' or 'style'.
    """
    for name, colour in zip(results['thetas'], _COLOURS * 9, strict=False):
        steps, (low, middle, high) = quartiles(results, name, part)
        x = steps if axis == 'steps' else quartiles(results, name, 'seconds')[1][1]
        ax.plot(x, middle, color=colour, label=name, marker='o', markersize=3)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale('symlog', linthresh=1)  # the first point is at 0, which has no logarithm
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter('{x:g}')
    ax.set_yscale('log')
    ax.set_xlabel(_X_LABELS[axis])
    ax.set_ylabel(f'{part} loss, median and quartiles')
    ax.grid(alpha=0.3)
