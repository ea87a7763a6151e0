"""The plot of `metastyle poster`: loss against seconds for 1, 10 and 1,000 photographs."""

import io
from collections.abc import Mapping
from typing import Any

from metastyle_jax.evaluation import report
from metastyle_jax.evaluation.poster import poster_tables

PHOTOGRAPHS = (1, 10, 1000)
_COLOURS = {
    'gatys': '#000000', 'johnson': '#0072b2', 'wct': '#009e73', 'adain': '#e69f00',
    'meta-networks': '#cc79a7', 'avatar-net': '#56b4e9', 'style-swap': '#999999',
    'metastyle': '#d55e00',
}  # fmt: skip
_MARKERS = {'metastyle': '*', 'gatys': 's', 'johnson': 'D'}


def amortized(found: Mapping[str, float], photographs: int) -> float:
    """Returns the seconds to stylize photographs in one new style, with the work for the style."""
    return found['style_seconds'] + photographs * found['picture_seconds']


def plot(results: Mapping[str, Any]) -> bytes:
    """Plots the total loss of each system against its seconds.

    Args:
        results: see `poster.run`.

    Returns:
        A PNG file.

    Raises:
        UserError: matplotlib is not installed.
    """
    report.require_matplotlib()
    import matplotlib.figure
    import matplotlib.ticker

    figure = matplotlib.figure.Figure(figsize=(13, 4.6), layout='constrained')
    panels = figure.subplots(1, len(PHOTOGRAPHS), sharey=True)
    measured = {n: e for n, e in results['quality'].items() if 'reason' not in e}
    for ax, photographs in zip(panels, PHOTOGRAPHS, strict=True):
        for name, entry in measured.items():
            found = poster_tables.medians(entry)
            x, y = amortized(found, photographs), found['total']
            marker, colour = _MARKERS.get(name, 'o'), _COLOURS.get(name, '#777777')
            ax.plot(x, y, marker=marker, color=colour, markersize=13 if marker == '*' else 8)
            ax.annotate(
                name, (x, y), xytext=(0, 9), textcoords='offset points', ha='center', fontsize=9,
                color=colour,
            )  # fmt: skip
        ax.set_xscale('log')
        ax.set_yscale('log')
        ax.margins(0.2)
        # Gatys et al. need a thousand times as long as others: one label for each power of ten.
        for axis, subs in ((ax.xaxis, (1,)), (ax.yaxis, (1, 2, 5))):
            axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs, numticks=12))
            axis.set_major_formatter('{x:g}')
            axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        plural = 's' if photographs > 1 else ''
        ax.set_title(f'{photographs:,} photograph{plural} in one new style')
        ax.set_xlabel('seconds, with the work for the style')
        ax.grid(alpha=0.3, which='both')
    panels[0].set_ylabel('total loss, median of styles (lower is better)')
    settings, machine = results['settings'], results['machine']
    figure.suptitle(
        f'{settings["size"]} × {settings["size"]} pixels, {settings["styles"]} styles, '
        f'{machine["device"]}, {results["date"]}'
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()
