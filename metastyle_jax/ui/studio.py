"""Actions of visitors: upload pictures, paint, choose styles, download results.

The first argument of every function is the session of the visitor. Every function may raise
`UserError` with a sentence for the visitor.
"""

import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.data.images import image_files, pixel_values, plain_pictures, resizing
from metastyle_jax.storage import style_files, style_library, theta_files
from metastyle_jax.stylization import mask_regions, render, styled_network
from metastyle_jax.stylization.inputs import folder_jobs, photograph_files
from metastyle_jax.ui import kept_styles, limits, live_stylization
from metastyle_jax.ui.config import PaintOptions, RenderOptions, UiConfig
from metastyle_jax.ui.sessions import ListedStyle, Session

PREVIEW_SIDE = 1024  # longest side, in pixels, of pictures on the page
THUMBNAIL_SIDE = 160
ELSEWHERE = ('photograph', 'second')
_SAMPLE = pathlib.Path(plain_pictures.__file__).parents[1] / 'photographs' / 'flower.jpg'


class Result(NamedTuple):
    """A finished picture.

    Attributes:
        before: the photograph, `[H, W, 3]` uint8; its longer side is at most `PREVIEW_SIDE` pixels.
        after: the same photograph in the style, in the same size.
        file: the finished picture in full size.
        size: width and height of this file.
    """

    before: np.ndarray
    after: np.ndarray
    file: pathlib.Path
    size: tuple[int, int]


class Studio:
    """The initialization, the limits, and the styles that every visitor can choose.

    Args:
        config: settings of the server.
    """

    def __init__(self, config: UiConfig) -> None:
        config.validate()
        self.config = config
        self.theta = theta_files.load_theta(config.theta)
        self.kept = kept_styles.KeptStyles(config.keep_folder) if config.keep else None
        self._offered: dict[str, ListedStyle] = {}
        found = self.kept.read_all(self.theta) if self.kept else {}
        if config.library is not None:
            found |= kept_styles.read(config.library, self.theta, config.max_styles)
        for name, style in [*found.items()][: config.max_styles]:
            self._offer(name, style)

    def begin(self, session: Session) -> None:
        """Adds the styles that every visitor can choose to the list of a new visitor."""
        session.styles.update(self._offered)

    # Uploads. -------------------------------------------------------------------------------------

    def take_picture(
        self, session: Session, role: str, upload: str | os.PathLike
    ) -> tuple[np.ndarray, list[str]]:
        """Takes an uploaded picture as the painting or the photograph.

        If it cannot be used, the earlier picture stays.

        Args:
            session: the visitor.
            role: 'painting' or 'photo'.
            upload: the uploaded file.

        Returns:
            A preview, `[H, W, 3]` uint8, and sentences for the visitor, such as warnings.
        """
        upload = pathlib.Path(upload)
        session.uploads.add(upload)
        notes = limits.check_picture(upload, self.config)
        picture = render.read_fitted(upload, PREVIEW_SIDE, name='picture').rgb
        warn = plain_pictures.of_painting if role == 'painting' else plain_pictures.of_photograph
        if text := warn(picture):
            notes.append(f'{upload.name}: {text}.')
        earlier = session.painting if role == 'painting' else session.photo
        kept = session.new_folder_beside(role, earlier) / upload.name
        shutil.copyfile(upload, kept)
        if role == 'painting':
            session.painting = kept
        else:
            session.photo, session.mask = kept, None
        return pixel_values.to_bytes(picture), notes

    def preview(self, session: Session, role: str) -> np.ndarray | None:
        """Returns the painting or the photograph for the page, uint8; None if there is none."""
        path = session.painting if role == 'painting' else session.photo
        if path is None:
            return None
        return pixel_values.to_bytes(render.read_fitted(path, PREVIEW_SIDE, name='picture').rgb)

    def forget_picture(self, session: Session, role: str) -> None:
        """Removes the painting or the photograph."""
        if role == 'painting':
            session.painting = None
        else:
            session.photo = session.mask = None

    def add_style_file(self, session: Session, upload: str | os.PathLike) -> list[str]:
        """Adds an uploaded style file, or all styles of a library; returns their names."""
        upload = pathlib.Path(upload)
        session.uploads.add(upload)
        limits.check_size(upload, self.config)
        room = self.config.max_styles - len(session.styles)
        found = kept_styles.read(upload, self.theta, self.config.max_styles)
        if len(found) > room:
            raise UserError(
                f'{upload.name} has {len(found)} styles, and the list has room for {room}: remove '
                'some styles first'
            )
        return [
            session.add_style(
                name, ListedStyle(style, self._thumbnail(style)), len(session.styles) + 1
            )
            for name, style in found.items()
        ]

    # Painting. ------------------------------------------------------------------------------------

    def paint(
        self, session: Session, options: PaintOptions, rendering: RenderOptions
    ) -> Iterator[live_stylization.LivePicture]:
        """Adapts θ to the painting, and adds the style to the visitor's list.

        Yields:
            See `live_stylization.paint`. When `session.stop` is set, the adaptation ends, and the
            style so far is added.

        Raises:
            UserError: a picture is missing, the list of styles is full, or see
                `live_stylization.paint`.
        """
        painting, photo = session.painting, self._photo(session)
        if painting is None:
            raise UserError('There is no painting yet: add one')
        session.check_room(self.config.max_styles)
        shown = render.read_fitted(photo, PREVIEW_SIDE, name='photograph').rgb
        thumbnail = render.read_fitted(painting, THUMBNAIL_SIDE * 2, name='painting').rgb
        last = None
        for last in live_stylization.paint(
            painting, shown, self.theta,
            options=options, rendering=rendering, stopped=session.stop.is_set,
        ):  # fmt: skip
            yield last
        session.stop.clear()
        assert last is not None  # the first picture always comes
        name = session.add_style(
            style_library.stem_of(painting.name),
            ListedStyle(last.style, _thumbnail_of(thumbnail)),
            self.config.max_styles,
        )
        session.choose({name: 1.0})

    def render(self, session: Session, rendering: RenderOptions) -> Result:
        """Stylizes the photograph in full size in the chosen style, and writes the result."""
        rendering.validate()
        photo = self._photo(session)
        styles, weights = session.chosen_styles()
        mask = session.mask  # another photograph, uploaded meanwhile, takes it away
        work = photograph_files.PhotographFiles(max_size=rendering.max_size, keep_location=False)
        picture = work.read(photo)
        look: dict[str, Any] = {
            'strength': rendering.strength,
            'keep_colours': rendering.keep_colours,
            'theta': self.theta,
        }
        if mask is not None and session.elsewhere == 'second' and len(styles) > 1:
            networks = [styled_network.load(style, **look) for style in styles[1::-1]]
            output = render.render_regions(networks, _shares(mask, picture.rgb), picture.rgb)
        else:
            network = styled_network.load(styles, weights=weights, **look)
            output = render.render(network, picture.rgb)
            if mask is not None:
                share = _shares(mask, picture.rgb)[1][..., None]
                output = picture.rgb + share * (output - picture.rgb)
        name = f'{kept_styles.file_stem("-".join([photo.stem, *session.chosen]))}'
        suffix = pathlib.PurePath(folder_jobs.writable_name(photo.name)).suffix
        target = session.new_folder('result') / f'{name}{suffix}'
        work.write(target, output, alpha=picture.alpha, source=photo, overwrite=True)
        height, width = output.shape[:2]
        return Result(_preview(picture.rgb), _preview(output), target, (width, height))

    def set_mask(self, session: Session, drawing: Any, elsewhere: str) -> None:
        """Stores the mask that the visitor drew on the photograph.

        Args:
            session: the visitor.
            drawing: name -> pixels, from Gradio's image editor. Its 'layers' are `[H, W, 4]` uint8,
                and opaque where the visitor drew.
            elsewhere: see `Session.elsewhere`.

        Raises:
            UserError: nothing is drawn, or `elsewhere` needs a blend.
        """
        self._photo(session)
        checks.one_of('elsewhere', elsewhere, ELSEWHERE)
        if elsewhere == 'second' and len(session.chosen) < 2:
            raise UserError('There is no second style: paint a blend of two styles first')
        layers = [layer[..., 3] for layer in (drawing or {}).get('layers') or ()]
        if not any(layer.any() for layer in layers):
            raise UserError('Nothing is drawn: brush over a part of the photograph')
        session.mask = np.maximum.reduce(layers).astype(np.float32) / 255
        session.elsewhere = elsewhere

    def _photo(self, session: Session) -> pathlib.Path:
        if session.photo is None:
            raise UserError('There is no photograph yet: add one')
        return session.photo

    # Styles. --------------------------------------------------------------------------------------

    def remove_style(self, session: Session, name: str) -> None:
        """Removes a style from the visitor's list, but not from the folder of kept styles."""
        if name in session.chosen:
            session.chosen = {}
        session.styles.pop(name, None)

    def keep_style(self, session: Session) -> pathlib.Path:
        """Writes the chosen style to the folder of kept styles; returns the file."""
        if self.kept is None:
            raise UserError('This server keeps no styles: download the style file')
        name, style = self._single(session)
        path = self.kept.save(name, style)
        if path.stem not in self._offered and len(self._offered) < self.config.max_styles:
            self._offered[path.stem] = session.styles[name]
        return path

    def style_file(self, session: Session) -> pathlib.Path:
        """Writes the chosen style to a style file for download."""
        name, style = self._single(session)
        target = session.new_folder('style') / f'{kept_styles.file_stem(name)}.safetensors'
        style_files.save_style(target, style)
        return target

    def onnx_file(self, session: Session, rendering: RenderOptions) -> pathlib.Path:
        """Writes the chosen style or blend as an ONNX program for download."""
        from metastyle_jax.stylization.export import export_style

        rendering.validate()
        styles, weights = session.chosen_styles()
        name = kept_styles.file_stem('-'.join(session.chosen))
        target = session.new_folder('onnx') / f'{name}.onnx'
        export_style.export_style(
            styles, target, weights=weights, strength=rendering.strength,
            keep_colours=rendering.keep_colours, theta=self.theta, check=False,
        )  # fmt: skip
        return target

    def _single(self, session: Session) -> tuple[str, style_files.Style]:
        styles, _ = session.chosen_styles()
        if len(styles) > 1:
            raise UserError(
                'A blend of several styles has no style file: choose one style, or make an ONNX '
                'file'
            )
        return next(iter(session.chosen)), styles[0]

    def _offer(self, name: str, style: style_files.Style) -> None:
        self._offered[name] = ListedStyle(style, self._thumbnail(style))

    def _thumbnail(self, style: style_files.Style) -> np.ndarray:
        """Stylizes a sample photograph; the thumbnail of a style whose painting is unknown."""
        sample = resizing.center_square(image_files.read(_SAMPLE).rgb, THUMBNAIL_SIDE)
        network = styled_network.load(style, theta=self.theta)
        return pixel_values.to_bytes(render.render(network, sample))


def _thumbnail_of(picture: np.ndarray) -> np.ndarray:
    """Returns a square thumbnail, `[S, S, 3]` uint8."""
    return pixel_values.to_bytes(resizing.center_square(picture, THUMBNAIL_SIDE))


def _preview(picture: np.ndarray) -> np.ndarray:
    """Returns a picture for the page, uint8, whose longer side is at most `PREVIEW_SIDE`."""
    size = resizing.fit_size(PREVIEW_SIDE, *picture.shape[:2])
    return pixel_values.to_bytes(resizing.resize(picture, *size))


def _shares(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Returns the weights `[2, H, W]` of the pixels outside and inside the mask."""
    grey = resizing.resize(mask, *picture.shape[:2])
    return mask_regions.shares_of_styles([grey], count=2, feather=mask_regions.FEATHER)
