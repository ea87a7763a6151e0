"""Tags: which are kept, where a film was made, and the comment that names the settings."""

import fractions

import pytest

from metastyle_jax.stylization.video import conversion
from metastyle_jax.stylization.video.encoding.tracks import tags

av = pytest.importorskip('av')
from films import make_film  # noqa: E402

TAGS = {
    'title': 'Holiday', 'artist': 'Anna', 'date': '2024-07-01', 'comment': 'of mine',
    'creation_time': '2024-07-01T10:00:00.000000Z', 'location': '+48.1000+011.5000/',
}  # fmt: skip


def metadata(path):
    with av.open(str(path)) as opened:
        return {name.lower(): value for name, value in opened.metadata.items()}


@pytest.mark.parametrize('source', ['.mp4', '.mkv'])
@pytest.mark.parametrize('suffix', ['.mp4', '.mov', '.mkv', '.webm', '.avi'])
@pytest.mark.parametrize('keep', [False, True])
def test_tags_are_kept_and_the_place_only_if_it_is_asked_for(
    tmp_path, source, suffix, keep, caplog
):
    caplog.set_level('INFO')
    film, out = make_film(tmp_path / f'film{source}', tags=TAGS), tmp_path / f'out{suffix}'
    conversion.convert_video(film, out, lambda x: x, keep_location=keep)
    found = metadata(out)
    wanted = ['title', 'artist', 'date', *(['creation_time'] if suffix != '.avi' else [])]
    assert {name: found.get(name) for name in wanted} == {name: TAGS[name] for name in wanted}
    assert found['comment'].startswith('of mine [metastyle_jax ')
    places = [name for name, value in found.items() if 'location' in name or '+48' in value]
    assert bool(places) == (keep and suffix != '.avi')
    assert ('the place where it was filmed is left out' in caplog.text) != keep
    if keep and suffix == '.avi':
        assert 'no place for: creation_time, location' in caplog.text


def test_the_place_is_found_under_all_of_its_names():
    for name in ('location', 'LOCATION', 'location-eng', 'com.apple.quicktime.location.ISO6709'):
        assert tags.has_location({name: '+48'}), name
    assert not tags.has_location({'title': 'on location', 'com.apple.quicktime.make': 'Apple'})


def test_a_comment_names_the_settings_once():
    once = tags.add_comment({'comment': 'of mine'}, 'metastyle_jax 0123456789abcdef')
    assert once == {'comment': 'of mine [metastyle_jax 0123456789abcdef]'}
    twice = tags.add_comment(once, 'metastyle_jax fedcba9876543210')
    assert twice == {'comment': 'of mine [metastyle_jax fedcba9876543210]'}
    alone = tags.add_comment({}, 'metastyle_jax 0123456789abcdef')
    assert tags.add_comment(alone, 'metastyle_jax fedcba9876543210') == {
        'comment': 'metastyle_jax fedcba9876543210'
    }


def test_chapters_are_moved_and_cut():
    second = fractions.Fraction(1)
    chapters = [
        {'id': i, 'start': begin, 'end': end, 'time_base': second, 'metadata': {'title': str(i)}}
        for i, (begin, end) in enumerate([(0, 10), (10, 20), (20, 30)])
    ]
    moved = tags.moved_chapters(chapters, fractions.Fraction(11), 8.5)
    assert [(c['start'], c['end'], c['metadata']) for c in moved] == [
        (0, 8500, {'title': '1'}),
    ]
    assert len(tags.moved_chapters(chapters, fractions.Fraction(0), None)) == 3
