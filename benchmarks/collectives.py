"""Finds the collectives in a compiled program, and the bytes that each device sends for them."""

import math
import re
from typing import NamedTuple

# Bytes of the types that a training step exchanges.
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 'f64': 8}
# Bytes that each of D devices sends, divided by the bytes of its result, times D / (D - 1). A ring
# reduces in D - 1 steps and then gathers in D - 1 steps. `reduce-scatter` has a small result.
_SENT = {
    'all-to-all': lambda devices: 1.0,
    'all-gather': lambda devices: 1.0,
    'all-reduce': lambda devices: 2.0,
    'reduce-scatter': lambda devices: float(devices),
}
# `%name = f32[2,3]{1,0} all-gather(`, or a tuple of such types in parentheses.
_LINE = re.compile(r'= (?P<type>\([^)]*\)|\S+) (?P<name>[a-z]+(?:-[a-z]+)*?)(?P<start>-start)?\(')
_ARRAY = re.compile(r'([a-z]+\d*)\[([\d,]*)\]')


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
        name: kind, such as 'all-gather'.
        size: bytes of the result on each device.
    """

    name: str
    size: int


def find(hlo: str) -> list[Collective]:
    """Finds the collectives of a program.

    Args:
        hlo: text of a compiled program, as `Compiled.as_text` returns it.
    """
    found = []
    for match in _LINE.finditer(hlo):
        if match['name'] in _SENT:
            sizes = [
                _BYTES[kind] * math.prod(int(side) for side in shape.split(',') if side)
                for kind, shape in _ARRAY.findall(match['type'])
            ]
            # The result of an asynchronous start is (operands, results).
            half = sum(sizes[len(sizes) // 2 :]) if match['start'] else sum(sizes)
            found.append(Collective(match['name'], half))
    return found


def sent(found: list[Collective], devices: int) -> float:
    """Returns the bytes that each device sends.

    Args:
        found: the collectives of its program.
        devices: number of devices, D, that take part in each of them.
    """
    return sum(each.size * _SENT[each.name](devices) for each in found) * (devices - 1) / devices
