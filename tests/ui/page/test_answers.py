"""Answers to events, and errors as sentences."""

import types

import pytest

gr = pytest.importorskip('gradio')

from metastyle_jax.core.errors import UserError  # noqa: E402
from metastyle_jax.ui import jobs, sessions  # noqa: E402
from metastyle_jax.ui.page.answers import Answers, progress_of  # noqa: E402

REQUEST = types.SimpleNamespace(session_hash='page')


@pytest.fixture
def warned(monkeypatch):
    """The warnings that were shown."""
    shown = []
    monkeypatch.setattr(gr, 'Warning', shown.append)
    return shown


@pytest.fixture
def everyone():
    opened = sessions.Sessions(most=1, linger=0.0)
    yield opened
    opened.close()


def answers_of(everyone, work, *outputs):
    answers = Answers({}, everyone, (everyone.folder,))
    return [*answers._answering(work, outputs, is_compute=True)(REQUEST, 7)]


def test_updates_come_in_the_order_of_the_outputs(everyone):
    def work(session, value):
        assert session is everyone.get('page')
        yield {'b': value}
        yield {'a': 1, 'b': 2}

    first, second = answers_of(everyone, work, 'a', 'b')
    assert first[1] == 7
    assert first[0] == gr.skip()
    assert second == [1, 2]
    assert answers_of(everyone, work, 'b') == [7, 2]  # Gradio takes a single output without a list


def test_errors_become_sentences_without_folders(everyone, warned):
    def refuses(session, value):
        yield {'status': 'begun'}
        raise UserError(f'{session.folder}/photo/a.jpg: is damaged')

    assert answers_of(everyone, refuses, 'status') == ['begun', 'A.jpg: is damaged.']

    def full(session, value):
        raise MemoryError

    def broken(session, value):
        raise KeyError('secret')

    assert 'memory' in answers_of(everyone, full, 'status')[0]
    (text,) = answers_of(everyone, broken, 'status')
    assert 'error in the program' in text
    assert 'secret' not in text
    assert len(warned) == 3
    everyone.leave('page')


def test_a_wish_to_stop_concerns_one_work_and_closed_work_leaves_that_of_others(warned):
    everyone = sessions.Sessions(most=2, linger=0.0)
    answers = Answers({}, everyone, (everyone.folder,))

    def work(session):
        yield {'status': 'working'}

    answer = answers._answering(work, ('status',), is_compute=True)
    one, other = (answer(types.SimpleNamespace(session_hash=key)) for key in 'ab')
    assert next(one) == next(other) == 'working'
    everyone.get('a').stop.set()
    one.close()  # as Gradio does late with the work of a page that was closed
    assert answers._computing is everyone.get('b')
    assert not everyone.get('a').stop.is_set()
    assert [*other] == []
    assert answers._computing is None
    everyone.close()


def test_work_of_a_visitor_who_has_left_tells_nothing(everyone, warned):
    def leaves(session, value):
        session.close()
        session.new_folder('result')
        yield {}

    assert answers_of(everyone, leaves, 'status') == ['']
    assert warned == []


def test_a_job_reports_its_progress_and_its_error():
    result = jobs.JobResult('file', 1, {}, False)

    def work(report):
        report(0, 1)
        report(1, 1)
        return result

    assert [*progress_of(work)] == [(0, 1), (1, 1), result]

    def fails(report):
        raise UserError('no')

    with pytest.raises(UserError, match='no'):
        [*progress_of(fails)]
