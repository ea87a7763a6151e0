"""A few of the cases of fuzz.py; `python tests/fuzz.py` runs all."""

import fuzz
import pytest


@pytest.mark.skipif(not fuzz.sys.platform.startswith('linux'), reason='reads /proc')
def test_mutated_files_and_settings_are_used_or_refused_with_an_error():
    counts = {kind: max(2, count // 60) for kind, count in fuzz.CASES.items()}
    totals, found = fuzz.fuzz(counts, seed=1)
    assert not found
    for kind, tally in totals.items():
        assert sum(tally.values()) == counts[kind], (kind, tally)
