"""Tags of a video (title, date, artist, …) and its chapters."""

import fractions
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from metastyle_jax.stylization.video.encoding import containers

# Tags that describe the old file itself, not the film: they would be wrong in the new one.
_TECHNICAL = re.compile(
    r'major_brand|minor_version|compatible_brands|encoder|encoding_tool|software|timecode|duration'
    r'|_statistics.*|bps|number_of_(frames|bytes)|wmfsdk.*|isvbr|deviceconformance.*|vendor_id'
    r'|metadatacreator|has(audio|video|metadata|keyframes|cuepoints)|canseek.*|variant_bitrate'
    r'|.*\.(version|creator)\.?app.*|rotate',
    re.IGNORECASE,
)
_PLACE = re.compile(r'location|gps|iso6709|latitude|longitude|\bgeo', re.IGNORECASE)
# Names that programs give to tracks by default.
_USUAL_TRACK_NAME = re.compile(
    r'.*handler|(core )?media (audio|video|time ?code)|gpac.*|(core )?media.*|stereo|mono|\W*',
    re.IGNORECASE,
)
_OWN_COMMENT = re.compile(r' ?\[?metastyle_jax [0-9a-f]{16}\]?$')
_CREATION_DATE = 'com.apple.quicktime.creationdate'


def kept_tags(
    metadata: Mapping[str, str], kind: containers.Container, *, keep_location: bool
) -> dict[str, str]:
    """Selects the tags of a source file that are written to its stylized copy.

    Tags that describe the old file itself, such as its encoder or its duration, are left out.

    Args:
        metadata: name -> value of the tags of the source.
        kind: kind of the file to write.
        keep_location: whether to keep tags that say where the video was filmed.

    Returns:
        Name -> value of the tags to write.
    """
    tags = {}
    for name, value in metadata.items():
        if _TECHNICAL.fullmatch(name) or (_PLACE.search(name) and not keep_location):
            continue
        # Matroska has names in capitals; all other containers have small letters.
        tags[name.lower() if name.isupper() else name] = value
    # These containers have one date only.
    others = {'mp4': [_CREATION_DATE], 'avi': [_CREATION_DATE, 'creation_time']}
    for name in others.get(kind.muxer, ()):
        if name in tags and 'date' not in tags:
            tags['date'] = tags.pop(name)
    return tags


def has_location(metadata: Mapping[str, str]) -> bool:
    """Whether any tag says where a video was filmed."""
    return any(_PLACE.search(name) for name in metadata)


def missing_track_tags(wanted: Any, found: Any) -> list[str]:
    """Lists which of language, title and forced flag a container did not store for a track.

    Args:
        wanted: PyAV's stream of the track, with the tags that were given to the container.
        found: the same track, read from the finished file.
    """
    import av

    forced = av.stream.Disposition.forced
    language = wanted.metadata.get('language', 'und')
    title = found.metadata.get('title') or found.metadata.get('name')
    missing = {
        'language': language not in ('und', found.metadata.get('language')),
        'title': 'title' in wanted.metadata and not title,
        'forced flag': wanted.disposition & forced and not found.disposition & forced,
    }
    return [name for name, lost in missing.items() if lost]


def missing_tags(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Lists the names of the tags that were to be written but are not in the finished file."""
    there = {name.lower() for name in found}
    synonyms = {'album': 'product'}  # in AVI
    return sorted(
        name
        for name in wanted
        if not there & {name.lower(), synonyms.get(name.lower(), name.lower())}
    )


def copy_track_tags(stream: Any, made: Any) -> None:
    """Gives a track of the output the language, title and flags of a track of the source.

    Args:
        stream: track of the source.
        made: track of the output.
    """
    metadata = {name.lower(): value for name, value in stream.metadata.items()}
    handler = metadata.get('handler_name', '')
    usual = '' if _USUAL_TRACK_NAME.fullmatch(handler) else handler
    title = metadata.get('title') or metadata.get('name') or usual
    tags = {'language': metadata.get('language', ''), 'title': title}
    made.metadata.update({name: value for name, value in tags.items() if value})
    made.disposition = stream.disposition


def settings_comment(settings: dict[str, Any]) -> str:
    """Makes a comment for the finished video that contains a hash of its settings.

    A later run compares the hash, to find out whether the video was made with the same settings.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f'metastyle_jax {digest[:16]}'


def add_comment(tags: Mapping[str, str], comment: str) -> dict[str, str]:
    """Adds a comment from `settings_comment` to the tags of a file; it replaces an older one."""
    # The input may be an earlier output.
    own = _OWN_COMMENT.sub('', tags.get('comment', ''))
    return {**tags, 'comment': f'{own} [{comment}]' if own else comment}


def moved_chapters(
    chapters: list[dict[str, Any]], start: fractions.Fraction, end: float | None
) -> list[dict[str, Any]]:
    """Converts the times of chapters from those of the source to those of the output.

    Args:
        chapters: the source's chapters, as PyAV gives them.
        start: time in the source, in seconds, that becomes time 0 of the output.
        end: length of the output in seconds; None if the output is as long as the source.

    Returns:
        The chapters with times in milliseconds. Chapters that begin after `end` are left out, and
        a chapter that goes beyond `end` is shortened.
    """
    unit = fractions.Fraction(1, 1000)
    last = None if end is None else round(end / unit)
    moved: list[dict[str, Any]] = []
    for chapter in chapters:
        begin, until = (
            max(0, round((chapter[name] * chapter['time_base'] - start) / unit))
            for name in ('start', 'end')
        )
        until = until if last is None else min(until, last)
        if begin < until:
            moved.append({
                'id': len(moved) + 1, 'start': begin, 'end': until, 'time_base': unit,
                'metadata': dict(chapter.get('metadata', {})),
            })  # fmt: skip
    return moved
