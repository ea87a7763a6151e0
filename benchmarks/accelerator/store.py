"""Keeps results as lines of JSON in one file, to which each result is appended at once.

A line has the fields

    key        identifies the item, the device, the versions and whether the sizes are small
    item       the fields of the item
    machine    device, versions and whether the sizes are small
    date       when it was measured
    took       seconds of the measurement, compiling included
    outcome    'done', 'failed', or 'stopped' for a training run that the next call continues
    result     what was measured, if done
    message    the reason, if not done
"""

import datetime
import json
import os
import pathlib
from typing import Any

from benchmarks.accelerator import items
from metastyle_jax.core.errors import UserError

Line = dict[str, Any]
# Versions on which the result of each side depends.
_VERSIONS = {'jax': ('jax', 'jaxlib'), 'torch': ('torch',), 'command': ('jax', 'jaxlib')}


def key_of(item: items.Item, machine: dict[str, Any]) -> str:
    """Identifies a measurement: the same key need not be measured again.

    Args:
        item: the measurement.
        machine: device, versions and whether the sizes are small.
    """
    versions = [f'{name} {machine[name]}' for name in _VERSIONS[item.side]]
    size = ['small'] if machine['small'] else []
    return ' | '.join((item.key, machine['device'], *versions, *size))


def line_of(
    item: items.Item, machine: dict[str, Any], outcome: str, took: float, **found: Any
) -> Line:
    """Makes the line of a measurement; `found` is its result or message."""
    return {
        'key': key_of(item, machine),
        'item': item._asdict(),
        'machine': machine,
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'took': round(took, 3),
        'outcome': outcome,
        **found,
    }


def read(file: pathlib.Path) -> list[Line]:
    """Reads all lines. A last line that a stopped program left unfinished is ignored.

    Raises:
        UserError: another line is not a result.
    """
    try:
        text = file.read_text('utf-8', 'replace')
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f'{file}: cannot be read: {error.strerror}') from error
    whole = text.split('\n')[:-1]  # what follows the last line break is an unfinished line
    lines = []
    for number, line in enumerate(whole, 1):
        try:
            found = json.loads(line)
            items.Item(**found['item'])
            _ = found['key'], found['outcome'], found['machine']['device']
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{file}, line {number}: it is not a result of this program; remove this line'
            ) from error
        lines.append(found)
    return lines


def append(file: pathlib.Path, line: Line) -> None:
    """Appends a line, and makes sure that it is on the disk."""
    with file.open('a+b') as stream:
        # An unfinished line of a stopped program must not be joined with this one.
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(end - 1, 0))
        if end and stream.read(1) != b'\n':
            stream.seek(0)
            stream.truncate(stream.read().rfind(b'\n') + 1)
        stream.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')
        stream.flush()
        os.fsync(stream.fileno())


def outcomes(lines: list[Line]) -> dict[str, str]:
    """Returns the last outcome of each key."""
    return {line['key']: line['outcome'] for line in lines}
