"""Times functions whose work may still continue when they return."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import harness


class Effort(NamedTuple):
    """How long to measure.

    Attributes:
        rounds: number of rounds, of which the quartiles are taken.
        least: shortest time of a round in seconds; a round has several calls if they are short.
        most: seconds after which no further round starts.
    """

    rounds: int = 7
    least: float = 0.1
    most: float = 8.0


SMALL = Effort(rounds=2, least=0.0, most=1.0)


def rounds(
    call: Callable[[], Any], wait: Callable[[], Any], effort: Effort
) -> dict[str, float | dict[str, float]]:
    """Times a function that was called before.

    Args:
        call: starts one run, which may still continue when it returns.
        wait: blocks until all runs are done.
        effort: how long to measure.

    Returns:
        `seconds`, median and quartiles of the time of a call when calls follow each other without
        waiting; and `latency`, the median time of a call together with waiting for its result.
    """

    def timed(calls: int) -> float:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        return (time.perf_counter() - begun) / calls

    begun = time.perf_counter()
    latency = [timed(1) for _ in range(2)]
    calls = max(1, math.ceil(effort.least / max(min(latency), 1e-6)))
    found: list[float] = []
    while len(found) < effort.rounds:
        found.append(timed(calls))
        latency.append(timed(1))
        if time.perf_counter() - begun > effort.most:
            break
    return {'seconds': harness.summary(found), 'latency': statistics.median(latency)}


def first_and_rounds(
    call: Callable[[], Any], wait: Callable[[], Any], effort: Effort
) -> dict[str, Any]:
    """Times the first call of a function, which compiles it, and then further calls.

    Returns:
        The result of `rounds`, and `compile`, the time that the first call took longer.
    """
    begun = time.perf_counter()
    call()
    wait()
    first = time.perf_counter() - begun
    found: dict[str, Any] = rounds(call, wait, effort)
    return found | {'compile': max(first - found['latency'], 0.0)}
