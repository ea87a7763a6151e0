"""A warning about pictures is told once in a run."""

import logging

from metastyle_jax.data.images import notices


def test_each_kind_of_warning_is_one_line(caplog):
    found = notices.PictureNotices()
    for name in ('a.jpg', 'b.jpg', 'c.jpg', 'd.jpg'):
        found.add('one colour', name)
    for _ in range(2):
        found.add('cut', 'x.jpg')
    with caplog.at_level(logging.WARNING):
        found.report(20)
    assert [record.getMessage() for record in caplog.records] == [
        '4 of 20 pictures (a.jpg, b.jpg, c.jpg, …): one colour',
        '1 of 20 pictures (x.jpg): cut',
    ]


def test_a_single_picture_is_named_without_a_count(caplog):
    found = notices.PictureNotices()
    with caplog.at_level(logging.WARNING):
        found.report(1)
        assert not caplog.records
        found.add('one colour', 'a.jpg')
        found.report(1)
    assert caplog.records[0].getMessage() == 'a.jpg: one colour'
