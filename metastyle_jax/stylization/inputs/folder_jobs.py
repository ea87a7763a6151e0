"""Decides which pictures are stylized, and to which files they are written."""

import concurrent.futures
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from metastyle_jax.core.commands import paths
from metastyle_jax.core.errors import UserError
from metastyle_jax.data import file_sources
from metastyle_jax.data.folders import distinct_names, picture_listing
from metastyle_jax.data.images import image_files, image_writing
from metastyle_jax.stylization.inputs import done_record
from metastyle_jax.stylization.video.decoding import film_files

PathLike: TypeAlias = str | os.PathLike[str]


class PictureJob(NamedTuple):
    """A picture to stylize.

    Attributes:
        source: the file to read.
        name: path of the file to write, relative to the output folder, with '/'.
        target: the file to write.
    """

    source: pathlib.Path
    name: str
    target: pathlib.Path


class FolderJobs(NamedTuple):
    """The pictures of a run.

    Attributes:
        pictures: the pictures to stylize; their headers could be read.
        unreadable: file that cannot be stylized -> reason.
        others: files that are not pictures.
    """

    pictures: list[PictureJob]
    unreadable: dict[pathlib.Path, str]
    others: list[pathlib.Path]


def plan(inputs: PathLike | Sequence[PathLike], output: PathLike) -> FolderJobs:
    """Finds the pictures, reads their headers, and chooses a different output file for each.

    Args:
        inputs: files, folders and patterns, see `picture_listing.find`.
        output: the output folder; it need not exist.

    Raises:
        UserError: an input is missing, no input is a picture, `output` is not a folder or lies
            inside an input folder, or an output file would replace one of the inputs.
    """
    output = paths.expand(os.fspath(output))
    target = pathlib.Path(output)
    given = _without_output(picture_listing.expand(inputs), target)
    _check_output(given, target, output)
    listing = picture_listing.find(given)
    if not (listing.pictures or listing.unreadable):
        shown = ', '.join(map(str, given[:3]))
        if any(path.suffix.lower() in film_files.SUFFIXES for path in listing.others):
            raise UserError(f'{shown}: holds only films; give one film as the input')
        raise UserError(
            f'{shown}: holds no pictures; these are accepted: {", ".join(image_files.SUFFIXES_IN)}'
        )
    jobs = _with_names(listing.pictures, target)
    sources = {os.path.abspath(job.source) for job in jobs}
    for job in jobs:
        if os.path.abspath(job.target) in sources:
            raise UserError(
                f'output={output}: {job.target} is one of the inputs; choose another folder'
            )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda job: file_sources.header_problem(job.source), jobs))
    unreadable = {path: f'{path}: {reason}' for path, reason in listing.unreadable.items()}
    for job, problem in zip(jobs, problems, strict=True):
        if problem:
            unreadable[job.source] = problem
    pictures = [job for job in jobs if job.source not in unreadable]
    return FolderJobs(pictures, unreadable, listing.others)


class ExistingFiles(NamedTuple):
    """What happens to output files that exist already; at most one of the three may be True.

    Attributes:
        overwrite: existing files are replaced.
        resume: files that an earlier run made are kept if picture and settings are still the same,
            and replaced if not. Other existing files are an error.
        skip_existing: existing files are kept.
    """

    overwrite: bool
    resume: bool
    skip_existing: bool

    def check(self, jobs: Sequence[PictureJob], record: done_record.DoneRecord) -> None:
        """Checks the existing output files before any work is done.

        Args:
            jobs: the pictures to stylize.
            record: the record of the output folder.

        Raises:
            UserError: more than one of the three attributes is True, or a file exists that may not
                be replaced.
        """
        given = [name for name, value in self._asdict().items() if value]
        if len(given) > 1:
            raise UserError(f'{given[0]}=True and {given[1]}=True exclude each other: give one')
        for job in jobs:
            if not job.target.exists() or self.skip_existing:
                continue
            if not (self.overwrite or (self.resume and record.is_own(job.name))):
                whose = ' and is of no earlier run' if self.resume else ''
                others = '' if self.resume else 'resume=True to continue a stopped run, '
                raise UserError(
                    f'{job.target} exists already{whose}: pass {others}skip_existing=True to keep '
                    'such files, or overwrite=True to replace them'
                )
            image_writing.check_output(job.target, overwrite=True, source=job.source)

    def is_kept(
        self, job: PictureJob, record: done_record.DoneRecord, source: str, settings: str
    ) -> bool:
        """Whether a picture is skipped because its output file is kept.

        Args:
            job: the picture.
            record: the record of the output folder.
            source: SHA-256 of the picture file.
            settings: SHA-256 of the settings, from `done_record.settings_digest`.
        """
        if self.skip_existing:
            return job.target.exists()
        return self.resume and record.is_done(
            job.name, source_sha256=source, settings_sha256=settings
        )


def writable_name(name: str) -> str:
    """Returns the name of the result: PNG, JPEG and WebP keep their name, others end in .png."""
    path = pathlib.PurePosixPath(name)
    if path.suffix.lower() in image_writing.SUFFIXES_KEPT:
        return name
    return path.with_suffix('.png').as_posix()


def _with_names(
    pictures: Sequence[picture_listing.PictureFile], target: pathlib.Path
) -> list[PictureJob]:
    """Chooses a different file name in the output folder for each picture."""
    wanted = [
        distinct_names.WantedName(
            writable_name(picture.name),
            picture.path.suffix[1:],
            picture.folder,
            str(picture.path),
        )
        for picture in pictures
    ]
    names = distinct_names.distinct(wanted)
    return [
        PictureJob(picture.path, name, target / name)
        for picture, name in zip(pictures, names, strict=True)
    ]


def _without_output(given: list[pathlib.Path], target: pathlib.Path) -> list[pathlib.Path]:
    """Removes the output folder from the inputs, since a pattern such as ``*`` may match it."""
    others = [path for path in given if os.path.realpath(path) != os.path.realpath(target)]
    return others if others else given


def _check_output(given: Sequence[pathlib.Path], target: pathlib.Path, output: PathLike) -> None:
    """Raises UserError if the output is a picture, another file, or inside an input folder."""
    folders = [path for path in given if path.is_dir()]
    if not paths.names_folder(output):
        if target.suffix.lower() in image_writing.SUFFIXES_OUT:
            what = f'input={folders[0]} is a folder' if folders else f'{len(given)} files are given'
            raise UserError(
                f'{what}, so output={output} must be a folder too: for example '
                f'{target.with_suffix("")}/'
            )
        if target.exists():
            raise UserError(f'output={output} is a file, and a folder is needed: choose another')
    for folder in folders:
        if target.resolve().is_relative_to(folder.resolve()):
            raise UserError(f'output={output} is inside of input={folder}: choose another folder')
