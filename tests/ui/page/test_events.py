"""What the events of the page yield."""

import pytest
from stylization_helpers import make_style

gr = pytest.importorskip('gradio')

import numpy as np  # noqa: E402

from metastyle_jax.core.errors import UserError  # noqa: E402
from metastyle_jax.ui import sessions  # noqa: E402
from metastyle_jax.ui.page import layout  # noqa: E402
from metastyle_jax.ui.page.answers import Answers  # noqa: E402
from metastyle_jax.ui.page.events import Events  # noqa: E402

pytestmark = pytest.mark.filterwarnings('default')  # Gradio warns of its own code


@pytest.fixture
def connected(config, place, monkeypatch):
    """The components, the events, and the outputs of each of them."""
    everyone, outputs = sessions.Sessions(most=1, linger=0.0), []
    connect = Answers.connect

    def recording(self, listener, work, inputs, names, **options):
        outputs.append(names)
        connect(self, listener, work, inputs, names, **options)

    monkeypatch.setattr(Answers, 'connect', recording)
    with gr.Blocks(analytics_enabled=False) as blocks:
        page = layout.build(config)
        events = Events(page, place, Answers(page, everyone, ()))
        events.connect(blocks, everyone)
    yield page, events, outputs
    everyone.close()


def test_the_errors_of_all_events_are_shown_as_text(connected):
    page, events, outputs = connected
    assert len(outputs) > 15
    assert {type(page[names[0]]) for names in outputs} == {gr.Markdown}
    (updates,) = events._show_weights(None, None)  # a list of styles that was emptied
    assert not any(slider.visible for slider in updates.values())


def test_a_style_is_listed_even_if_the_picture_is_too_large_for_the_memory(
    connected, session, place, monkeypatch
):
    def full(*_):
        raise UserError('full')

    def paint(session, *_):
        session.styles['one'] = sessions.ListedStyle(make_style(1), np.zeros((2, 2, 3), np.uint8))
        yield from ()

    monkeypatch.setattr(place, 'paint', paint)
    monkeypatch.setattr(place, 'render', full)
    found = []
    with pytest.raises(UserError, match='full'):
        found.extend(connected[1]._paint(session, 1, 64, False, 1.0, False, None))
    *_, last = found
    assert [name for _, name in last['styles']] == ['one']
