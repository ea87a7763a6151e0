"""What visitors do with pictures and styles."""

import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style

from metastyle_jax.core.errors import UserError
from metastyle_jax.storage import style_files
from metastyle_jax.stylization import stylize
from metastyle_jax.ui import sessions, studio
from metastyle_jax.ui.config import PaintOptions, RenderOptions, UiConfig

QUICK = PaintOptions(steps=1, style_size=64, whole=False)
PLAIN = RenderOptions()
THUMBNAIL = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture
def with_photo(place, session, photo):
    place.take_picture(session, 'photo', photo)
    return session


@pytest.fixture
def with_styles(with_photo):
    for seed in (1, 2):
        with_photo.styles[f'style {seed}'] = sessions.ListedStyle(make_style(seed), THUMBNAIL)
    with_photo.choose({'style 1': 1})
    return with_photo


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image, np.float32) / 255


def test_painting_adds_the_style_and_the_result_is_that_of_stylize(
    place, with_photo, painting, photo
):
    session = with_photo
    preview, notes = place.take_picture(session, 'painting', painting)
    assert (preview.shape, preview.dtype, notes) == ((24, 32, 3), np.uint8, [])
    steps = [live.step for live in place.paint(session, QUICK, PLAIN)]
    assert steps == [0, 1]
    assert [*session.styles] == [*session.chosen] == ['painting']
    assert session.styles['painting'].thumbnail.shape == (160, 160, 3)
    rendering = RenderOptions(strength=0.5, keep_colours=True)
    result = place.render(session, rendering)
    assert result.file.name == 'photo-painting.jpg'
    assert result.size == (24, 20)
    style = style_files.load_style(place.style_file(session))
    expected = stylize.stylize(style, photo, strength=0.5, keep_colours=True, theta=place.theta)
    np.testing.assert_allclose(result.after / 255, expected, atol=1 / 255)
    np.testing.assert_allclose(levels(result.file), expected, atol=0.1)  # JPEG
    for path in session.folder.rglob('*'):
        assert session.folder in path.parents


def test_the_whole_network_may_be_adapted_and_the_visitor_may_stop(place, with_photo, painting):
    place.take_picture(with_photo, 'painting', painting)
    options = PaintOptions(steps=5, style_size=64, whole=True)
    for live in place.paint(with_photo, options, PLAIN):
        if live.step == 1:
            with_photo.stop.set()
            for _ in range(2):  # other pictures that are uploaded meanwhile do no harm
                place.take_picture(with_photo, 'painting', painting)
    style = with_photo.styles['painting'].style
    assert (style.adapted, style.settings['steps']) == ('all', 1)


def test_what_is_missing_is_told(place, session, painting, photo):
    with pytest.raises(UserError, match='no photograph yet'):
        next(place.paint(session, QUICK, PLAIN))
    place.take_picture(session, 'photo', photo)
    with pytest.raises(UserError, match='no painting yet'):
        next(place.paint(session, QUICK, PLAIN))
    with pytest.raises(UserError, match='no style yet'):
        place.render(session, PLAIN)
    place.forget_picture(session, 'photo')
    assert session.photo is None
    assert place.preview(session, 'photo') is None


def test_a_refused_picture_leaves_the_earlier_one(place, with_photo, tmp_path):
    before, shown = with_photo.photo, place.preview(with_photo, 'photo')
    (tmp_path / 'text.jpg').write_text('This is a text.')
    with pytest.raises(UserError, match='text'):
        place.take_picture(with_photo, 'photo', tmp_path / 'text.jpg')
    assert with_photo.photo == before
    np.testing.assert_array_equal(place.preview(with_photo, 'photo'), shown)


def test_a_picture_that_is_in_use_survives_its_replacement(place, with_photo, photo, tmp_path):
    first = with_photo.photo
    place.take_picture(with_photo, 'photo', photo)
    second = with_photo.photo
    assert first.exists()
    place.take_picture(with_photo, 'photo', photo)
    assert not first.samefile(second)
    assert len([*with_photo.folder.rglob('photo.jpg')]) == 2


def test_a_refused_upload_belongs_to_the_visitor_too(place, session, tmp_path):
    upload = tmp_path / 'text.jpg'
    upload.write_text('This is a text.')
    with pytest.raises(UserError, match='text'):
        place.take_picture(session, 'photo', upload)
    session.close()
    assert not upload.exists()


def test_a_full_list_is_told_before_the_work(place, with_styles, painting):
    place.take_picture(with_styles, 'painting', painting)
    with_styles.styles['style 3'] = with_styles.styles['style 1']
    with pytest.raises(UserError, match='The list has 3 styles'):
        next(place.paint(with_styles, QUICK, PLAIN))


def test_pictures_of_one_colour_are_told(place, session, tmp_path):
    Image.new('RGB', (20, 20), 'red').save(tmp_path / 'red.png')
    for role in ('painting', 'photo'):
        _, notes = place.take_picture(session, role, tmp_path / 'red.png')
        assert len(notes) == 1


def test_a_blend_is_rendered_and_has_no_style_file(place, with_styles, photo):
    with_styles.choose({'style 1': 3, 'style 2': 1})
    result = place.render(with_styles, PLAIN)
    expected = stylize.stylize(
        [make_style(1), make_style(2)], photo, weights=[0.75, 0.25], theta=place.theta
    )
    np.testing.assert_allclose(result.after / 255, expected, atol=1 / 255)
    for refused in (place.style_file, place.keep_style):
        with pytest.raises(UserError, match='blend'):
            refused(with_styles)


def drawing(rows):
    layer = np.zeros((20, 24, 4), np.uint8)
    layer[rows] = 255
    return {'background': None, 'layers': [layer], 'composite': None}


def test_a_mask_limits_the_style_or_gives_the_rest_another_one(place, with_styles, photo):
    original = np.asarray(Image.open(photo), np.float32) / 255
    place.set_mask(with_styles, drawing(slice(0, 10)), 'photograph')
    full = stylize.stylize(make_style(1), photo, theta=place.theta)
    after = place.render(with_styles, PLAIN).after / 255
    np.testing.assert_allclose(after[:9], full[:9], atol=2 / 255)
    np.testing.assert_allclose(after[11:], original[11:], atol=2 / 255)
    with pytest.raises(UserError, match='no second style'):
        place.set_mask(with_styles, drawing(slice(0, 10)), 'second')
    with_styles.choose({'style 1': 1, 'style 2': 1})
    place.set_mask(with_styles, drawing(slice(0, 10)), 'second')
    second = stylize.stylize(make_style(2), photo, theta=place.theta)
    after = place.render(with_styles, PLAIN).after / 255
    np.testing.assert_allclose(after[:9], full[:9], atol=2 / 255)
    np.testing.assert_allclose(after[11:], second[11:], atol=2 / 255)
    for nothing in (None, {'layers': []}, drawing(slice(0, 0))):
        with pytest.raises(UserError, match='Nothing is drawn'):
            place.set_mask(with_styles, nothing, 'photograph')
    place.take_picture(with_styles, 'photo', photo)
    assert with_styles.mask is None


def test_kept_styles_are_offered_to_later_visitors(config, place, with_styles, tmp_path):
    path = place.keep_style(with_styles)
    assert path.parent == tmp_path / 'kept'
    for later in (place, studio.Studio(config)):
        visitor = sessions.Session(tmp_path)
        later.begin(visitor)
        assert [*visitor.styles] == ['style_1']
        assert visitor.styles['style_1'].style.params.keys() == make_style(1).params.keys()
    place.remove_style(with_styles, 'style 1')
    assert with_styles.chosen == {}
    assert path.exists()


def test_nothing_is_kept_on_disk_unless_the_page_may(theta_file, with_styles, tmp_path):
    place = studio.Studio(UiConfig(theta=theta_file, keep=False, keep_folder=tmp_path / 'kept'))
    with pytest.raises(UserError, match='keeps no styles'):
        place.keep_style(with_styles)
    assert not (tmp_path / 'kept').exists()


def test_a_library_is_offered_and_uploaded_styles_are_added(theta_file, tmp_path, session):
    style_files.save_style(tmp_path / 'a.safetensors', make_style(1))
    place = studio.Studio(
        UiConfig(theta=theta_file, keep=False, library=tmp_path / 'a.safetensors', max_styles=2)
    )
    place.begin(session)
    assert [*session.styles] == ['style 1']
    assert place.add_style_file(session, tmp_path / 'a.safetensors') == ['style 1 2']
    assert session.styles['style 1'].thumbnail.shape == (160, 160, 3)
    with pytest.raises(UserError, match='1 styles, and the list has room for 0'):
        place.add_style_file(session, tmp_path / 'a.safetensors')


def test_the_chosen_style_is_exported_as_onnx(place, with_styles):
    pytest.importorskip('onnx')
    path = place.onnx_file(with_styles, RenderOptions(strength=0.5))
    assert path.name == 'style_1.onnx'
    assert path.stat().st_size > 1000
