"""Sessions: their folders, their ends, and what a visitor has."""

import threading

import numpy as np
import pytest
from stylization_helpers import make_style

from metastyle_jax.core.errors import UserError
from metastyle_jax.ui import sessions

LISTED = sessions.ListedStyle(make_style(1), np.zeros((2, 2, 3), np.uint8))


@pytest.fixture
def everyone():
    opened = sessions.Sessions(most=2, linger=0.0)
    yield opened
    opened.close()


def joined():
    """Waits for the timers of sessions that were left."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_each_page_has_its_own_session_and_their_number_is_limited(everyone):
    one, two = everyone.get('a'), everyone.get('b')
    assert one is everyone.get('a') is not two
    assert one.folder != two.folder
    with pytest.raises(UserError, match='2 pages are open'):
        everyone.get('c')


def test_the_files_of_a_page_are_deleted_after_it_was_closed(everyone, tmp_path):
    session = everyone.get('a')
    (session.folder / 'photo.jpg').touch()
    upload = tmp_path / 'upload.jpg'
    upload.touch()
    session.uploads.add(upload)
    everyone.leave('a')
    joined()
    assert not session.folder.exists()
    assert not upload.exists()
    assert session.stop.is_set()
    assert len(everyone) == 0
    everyone.leave('unknown')


def test_a_page_that_comes_back_keeps_its_session():
    ended = []
    opened = sessions.Sessions(most=1, linger=1e6, ended=ended.append)
    session = opened.get('a')
    opened.leave('a')
    assert opened.get('a') is session
    assert session.folder.exists()
    opened.leave('a')
    assert ended == []
    opened.close()
    assert ended == [True]
    assert not opened.folder.exists()


def test_a_session_that_ended_makes_no_folder(everyone):
    session = everyone.get('a')
    assert session.new_folder('result').is_dir()
    everyone.leave('a')
    joined()
    assert session.closed
    with pytest.raises(UserError, match='page was closed'):
        session.new_folder('result')
    assert not session.folder.exists()


def test_only_the_current_work_of_an_open_page_is_stopped(everyone):
    everyone.stop('a')
    assert len(everyone) == 0
    session, other = everyone.get('a'), everyone.get('b')
    everyone.stop('c')  # no further page could be opened
    everyone.stop('a')
    assert (session.stop.is_set(), other.stop.is_set()) == (True, False)


def test_names_in_the_list_differ_and_their_number_is_limited(session):
    assert session.add_style('a', LISTED, 2) == 'a'
    other = sessions.ListedStyle(make_style(2), LISTED.thumbnail)
    assert session.add_style('a', other, 2) == 'a 2'
    with pytest.raises(UserError, match='has 2 styles'):
        session.add_style('b', sessions.ListedStyle(make_style(3), LISTED.thumbnail), 2)


def test_weights_of_the_chosen_styles_sum_to_one(session):
    with pytest.raises(UserError, match='no style yet'):
        session.chosen_styles()
    for name in 'ab':
        session.styles[name] = sessions.ListedStyle(make_style(ord(name)), LISTED.thumbnail)
    session.choose({'a': 30, 'b': 10})
    styles, weights = session.chosen_styles()
    assert (len(styles), weights) == (2, [0.75, 0.25])
    session.choose({'a': 30, 'b': 0})
    assert session.chosen == {'a': 1.0}
    for weights in ({'a': 0}, {}, {'c': 1}):
        with pytest.raises(UserError, match='style'):
            session.choose(weights)
    assert session.chosen == {'a': 1.0}
