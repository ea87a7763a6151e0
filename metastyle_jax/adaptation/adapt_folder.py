"""Adapts θ to every picture of a folder, and writes the styles to one library file.

Several styles are adapted in one batch, see `batched_step`. The library file is written after each
group of styles. A later call with the same arguments continues a stopped one.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from metastyle_jax.adaptation import adaptation_start, style_group, style_image
from metastyle_jax.adaptation.config import STYLES_AT_ONCE, AdaptConfig
from metastyle_jax.core import checks, files, progress_bar
from metastyle_jax.core.commands import paths
from metastyle_jax.core.devices import sharding
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import batching, image_source, sources
from metastyle_jax.data.folders import named_pictures
from metastyle_jax.data.images import image_files
from metastyle_jax.models import perceptual_loss, vgg
from metastyle_jax.storage import style_library, theta_files

LIBRARY_NAME = 'library.safetensors'  # in an output folder


class FolderResult(NamedTuple):
    """Result of `adapt_many`.

    Attributes:
        library: all styles, including those of earlier calls.
        failed: name of each picture without a style -> reason.
        done: number of styles that this call made.
        stopped: whether the call was stopped before the last style.
        skipped: names of the pictures whose styles were in the library already.
        others: files in the folders that are not pictures.
    """

    library: style_library.Library
    failed: dict[str, str]
    done: int
    stopped: bool
    skipped: Sequence[str] = ()
    others: Sequence[pathlib.Path] = ()


def adapt_many(
    pictures: str | os.PathLike | Sequence[str | os.PathLike],
    theta: str | os.PathLike | theta_files.Theta | None = None,
    *,
    config: AdaptConfig | None = None,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    styles_at_once: int = STYLES_AT_ONCE,
    devices: int = 0,
    stopped: Callable[[], bool] = lambda: False,
    progress: bool = False,
    **settings: Any,
) -> FolderResult:
    """Adapts the instance norms of θ to every picture of a folder.

    Each style equals the result of `adapt` for this picture with the same settings, except for
    rounding. Pictures that cannot be read, and styles that diverge, are listed in the result; the
    others are still adapted.

    Args:
        pictures: a folder (searched with its sub-folders), a picture, a pattern such as ``*.jpg``,
            or several of these; or a data source, see `sources.open_source`.
        theta: the initialization, see `adapt.adapt`.
        config: settings of the adaptation; None for the defaults of `AdaptConfig.for_library`.
        out: the library file, or a folder for the file `LIBRARY_NAME`. A name that ends in a slash
            is a folder, which is created if needed. None to write no file. Styles that are in the
            file already are not adapted again.
        overwrite: whether to replace an existing library instead of continuing it.
        styles_at_once: number of styles in one batch; it changes only memory and speed.
        devices: number of devices that share the styles; 0 for all.
        stopped: called after each step; the work stops if it returns True. Finished groups are
            kept, and the current group is lost.
        progress: whether to show a progress bar.
        **settings: fields of `AdaptConfig`; they replace those of `config`.

    Returns:
        A `FolderResult`.

    Raises:
        UserError: a setting or a file cannot be used, `out` holds a library that was made from
            another θ or with other settings, or no picture could be adapted to.
    """
    config = checks.replace_settings(config or AdaptConfig.for_library(), settings)
    checks.whole_number('styles_at_once', styles_at_once, 1)
    devices = sharding.count(devices, name='devices')
    source, failed, others = named_pictures.open_pictures(pictures)
    config, theta = _resolve(config, theta)
    out, in_new_folder = library_file(out)
    palette, palette_name = style_image.read_palette(config.match_colours)
    vgg_params = vgg.load(config.vgg_file)
    record = config.to_record(match_colours=palette_name, vgg=vgg.digest(vgg_params))
    if out is not None and not in_new_folder:
        style_library.check_output(out, overwrite=True)
    library = _open_library(out, theta, record, overwrite=overwrite)
    contents = sources.open_source(config.content, kind='content')
    contents = sources.without(contents, config.content_exclude)
    missing, skipped = _missing_pictures(source, library, failed)
    images = style_group.read_images(
        source, missing, vgg_params, config.style_size, palette, failed
    )
    # Every device takes the same number of styles, so their number is rounded up.
    count = -(-max(1, min(styles_at_once, len(missing))) // devices) * devices
    adapter = style_group.GroupAdapter(theta, vgg_params, config, count=count, devices=devices)
    save = None if out is None else functools.partial(_save, out)
    with (
        contextlib.closing(images),
        batching.content_batches(
            contents, batch=config.batch, size=config.size, seed=config.seed
        ) as batches,
    ):
        result = _adapt_groups(
            library, images, adapter, style_group.ContentBatches(batches),
            steps=adaptation_start.step_count(config, theta), save=save, total=len(missing),
            failed=failed, stopped=stopped, progress=progress,
        )  # fmt: skip
    if not (result.library.entries or result.stopped):
        name, reason = next(iter(failed.items()))
        raise UserError(f'none of {len(failed)} pictures became a style; {name}: {reason}')
    return result._replace(skipped=skipped, others=others)


def library_file(out: str | os.PathLike | None) -> tuple[pathlib.Path | None, bool]:
    """Returns the library file for an output, and whether its folder must be created.

    Args:
        out: a file or a folder, see `adapt_many`; None for no file.
    """
    if out is None:
        return None, False
    word = paths.expand(os.fspath(out))
    path = pathlib.Path(word)
    if not paths.names_folder(word):
        return path, False
    return path / LIBRARY_NAME, not path.exists()


def _save(out: pathlib.Path, library: style_library.Library) -> None:
    """Writes the library file; creates its folder if it does not exist."""
    paths.make_folder(out.parent, UserError)
    style_library.save(out, library, overwrite=True)


def _resolve(
    config: AdaptConfig, theta: str | os.PathLike | theta_files.Theta | None
) -> tuple[AdaptConfig, theta_files.Theta]:
    """Checks the settings of a library, and reads θ, see `adaptation_start.resolve`."""
    if config.params != 'norm':
        raise UserError(
            f"params={config.params!r}: a library holds instance norms, params='norm'; adapt to "
            'one style image to adapt all parameters'
        )
    return adaptation_start.resolve(config, theta)


def _adapt_groups(
    library: style_library.Library,
    images: Iterator[style_group.StyleImage],
    adapter: style_group.GroupAdapter,
    contents: style_group.ContentBatches,
    *,
    steps: int,
    save: Callable[[style_library.Library], None] | None,
    total: int,
    failed: dict[str, str],
    stopped: Callable[[], bool],
    progress: bool,
) -> FolderResult:
    """Adapts to one group of style images after another, and saves the library after each."""
    done, stop = 0, False
    all_steps = steps * -(-total // adapter.count)
    with progress_bar.show(
        description='adapting', unit='step', disable=not (progress and total), total=all_steps
    ) as bar:
        while not stop and (group := list(itertools.islice(images, adapter.count))):
            bar.set_postfix(styles=f'{done}/{total}', refresh=False)
            result = adapter.adapt(
                group, contents.first(steps), after_step=bar.update, stopped=stopped
            )
            stop = result is None
            if result is not None:
                new = _finite_styles(library, group, result, failed)
                library, done = style_library.merge(library, new), done + len(new.entries)
                if save is not None and library.entries:
                    save(library)
    return FolderResult(library, failed, done, stop)


def _open_library(
    out: str | os.PathLike | None,
    theta: theta_files.Theta,
    record: dict[str, Any],
    *,
    overwrite: bool,
) -> style_library.Library:
    """Reads an existing library to continue it, or makes an empty one.

    Raises:
        UserError: the existing library was made from another θ or with other settings.
    """
    if out is None or overwrite or not os.path.exists(out):
        return style_library.Library({}, {}, theta.fingerprint, record)
    library = style_library.load(out)
    remedy = 'or another file with out=, or overwrite=True to start anew'
    if library.theta_sha256 != theta.fingerprint:
        raise UserError(
            f'{out} holds styles of the θ {library.theta_sha256}, and this one is '
            f'{theta.fingerprint}: give that θ, {remedy}'
        )
    changed = [
        f'{name} was {library.settings.get(name)!r}, is {value!r}'
        for name, value in record.items()
        if library.settings.get(name) != value
    ]
    if changed:
        raise UserError(
            f'{out} was made with other settings ({"; ".join(changed)}): give those settings, '
            f'{remedy}'
        )
    return library


def _missing_pictures(
    source: image_source.ImageSource, library: style_library.Library, failed: dict[str, str]
) -> tuple[list[tuple[int, str]], list[str]]:
    """Lists (index, SHA-256) of each picture that is not in the library, and the other names.

    A picture whose file cannot be read is added to `failed` instead.
    """
    missing: list[tuple[int, str]] = []
    present: list[str] = []
    for i in range(len(source)):
        name = source.name(i)
        try:
            item = source[i]
            if isinstance(item, str) and not os.path.isfile(item):
                failed[name] = 'is not a regular file; save it to one first'
                continue
            digest = (
                hashlib.sha256(item).hexdigest()
                if isinstance(item, bytes)
                else files.sha256_of(item)
            )
        except (OSError, image_files.ImageError) as error:
            failed[name] = str(error)
            continue
        if name in library.entries and library.entries[name].sha256 == digest:
            present.append(name)
        else:
            missing.append((i, digest))
    if present:
        logging.info('%d styles are done already, %d are to do', len(present), len(missing))
    return missing, present


def _finite_styles(
    library: style_library.Library,
    group: Sequence[style_group.StyleImage],
    result: style_group.GroupResult,
    failed: dict[str, str],
) -> style_library.Library:
    """Makes a library of the group's styles; adds styles that diverged to `failed` instead."""
    finite = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in result.params.values()])
    rows = [i for i in range(len(group)) if finite[i]]
    for image, fine in zip(group, finite, strict=False):
        if not fine:
            failed[image.name] = 'the loss diverged: lower the rate or the style weight'
    ends = (result.first, result.last)
    entries = {
        group[i].name: style_library.LibraryEntry(
            group[i].sha256,
            {
                part: [round(float(getattr(loss, part)[i]), 5) for loss in ends]
                for part in perceptual_loss.PARTS
            },
        )
        for i in rows
    }
    params = {name: leaf[rows] for name, leaf in result.params.items()}
    return library._replace(params=params, entries=entries)
