"""What is told at the end about many pictures."""

import logging

from metastyle_jax.data.folders import totals


def test_every_number_and_every_reason_is_told(caplog):
    caplog.set_level(logging.INFO)
    totals.tell(
        '12 stylized', skipped=[f'{i}.png' for i in range(12)], why_skipped='done before',
        place='out', left_out={'in/x.jpg': 'left out: in/x.jpg: has no bytes'},
        others=['notes.txt'],
    )  # fmt: skip
    assert [record.message for record in caplog.records] == [
        'left out: in/x.jpg: has no bytes',
        'skipped (done before): ' + ', '.join(f'{i}.png' for i in range(10)) + ' and 2 more',
        '1 file is no picture: notes.txt',
        'out: 12 stylized, 12 skipped (done before), 1 not usable: x.jpg',
    ]


def test_nothing_is_told_of_what_there_is_not(caplog):
    caplog.set_level(logging.INFO)
    totals.tell('1 stylized', skipped=[], why_skipped='', left_out={}, others=[], place='out/')
    assert [record.message for record in caplog.records] == ['out/: 1 stylized']
