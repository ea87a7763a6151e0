"""The published table of MetaStyle's poster.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233, table 1. Their times are on one GPU.
"""

from typing import NamedTuple


class PublishedRow(NamedTuple):
    """The published numbers of one system.

    Attributes:
        parameters: number of parameters in millions; None for Gatys et al.
        seconds: height and width of a picture in pixels -> seconds to stylize it.
        styles: number of styles of one network.
    """

    parameters: float | None
    seconds: dict[int, float]
    styles: str


ROWS = {
    'gatys': PublishedRow(None, {256: 7.7428, 512: 27.0517}, '∞'),
    'johnson': PublishedRow(1.68, {256: 0.0044, 512: 0.0146}, '1'),
    'wct': PublishedRow(34.23, {256: 0.6887, 512: 1.2335}, '∞'),
    'adain': PublishedRow(7.01, {256: 0.0165, 512: 0.0320}, '∞'),
    'meta-networks': PublishedRow(219.32, {256: 0.0045, 512: 0.0147}, '∞'),
    'avatar-net': PublishedRow(147.22, {256: 0.5089, 512: 0.6088}, '∞'),
    'style-swap': PublishedRow(1.48, {256: 0.2679, 512: 1.0890}, '∞'),
    'metastyle': PublishedRow(1.68, {256: 0.0047, 512: 0.0145}, '∞, after adaptation'),
}


def ratio(name: str, size: int) -> float | None:
    """Returns the published time of a system over that of MetaStyle, or None if there is none."""
    own, other = ROWS['metastyle'].seconds.get(size), ROWS[name].seconds.get(size)
    return None if own is None or other is None else other / own
