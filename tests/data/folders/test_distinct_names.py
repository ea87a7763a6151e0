"""No two results get one name, and the rule does not depend on the order."""

import itertools

import pytest

from metastyle_jax.data.folders import distinct_names


def wanted(source, name=None, folder='photos'):
    stem, _, suffix = source.rpartition('.')
    name = name or (source if suffix in ('png', 'jpg') else f'{stem or source}.png')
    return distinct_names.WantedName(name, suffix if stem else '', folder, f'{folder}/{source}')


def names_of(requests, **options):
    return dict(
        zip(
            [each.source for each in requests],
            distinct_names.distinct(requests, **options),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ('sources', 'expected'),
    [
        (['a.png', 'b.tif'], ['a.png', 'b.png']),
        (['a.png', 'a.jpg'], ['a.png', 'a.jpg']),
        (['a.png', 'a.tif'], ['a_png.png', 'a_tif.png']),
        (['a.png', 'a.tif', 'a.bmp'], ['a_png.png', 'a_tif.png', 'a_bmp.png']),
        (['x/a.png', 'x/a.tif'], ['x/a_png.png', 'x/a_tif.png']),
        (['a.png', 'a.tif', 'a_tif.png'], ['a_png.png', 'a_tif_2.png', 'a_tif.png']),
        (['a.png', 'a'], ['a_png.png', 'a.png']),
        (['A.jpg', 'a.jpg'], ['A.jpg', 'a_2.jpg']),
        (['A.tif', 'a.png', 'a.tif'], ['A_tif.png', 'a_png.png', 'a_tif_2.png']),
        (['a.png/b.png', 'a.tif'], ['a.png/b.png', 'a_2.png']),
        (['A.png', 'a.tif'], ['A_png.png', 'a_tif.png']),
    ],
)
def test_pictures_that_want_one_name_are_told_apart_whatever_their_order(sources, expected):
    for order in itertools.permutations(range(len(sources))):
        found = names_of([wanted(sources[i]) for i in order])
        assert [found[f'photos/{source}'] for source in sources] == expected


def test_one_name_in_two_folders_gets_the_name_of_the_folder():
    two = [wanted('a.jpg', folder='x'), wanted('a.jpg', folder='y')]
    assert distinct_names.distinct(two) == ['x_a.jpg', 'y_a.jpg']
    mixed = [*two, wanted('a.jpg', folder='z'), wanted('a.tif', folder='z')]
    assert distinct_names.distinct(mixed) == ['x_a.jpg', 'y_a.jpg', 'z_a.jpg', 'a.png']
    same = [each._replace(folder='x') for each in two]
    assert distinct_names.distinct(same) == ['a.jpg', 'a_2.jpg']


def test_names_that_differ_in_case_stay_where_case_counts():
    requests = [wanted('A.jpg'), wanted('a.jpg')]
    assert distinct_names.distinct(requests, ignore_case=False) == ['A.jpg', 'a.jpg']


def test_composed_and_decomposed_letters_are_one_name():
    found = distinct_names.distinct([wanted('\u00e9.jpg'), wanted('e\u0301.jpg')])
    assert len({distinct_names._fold(name) for name in found}) == 2


def test_a_name_that_grows_too_long_is_shortened_and_stays_its_own():
    stem = 'é' * 127
    found = distinct_names.distinct([wanted(f'{stem}.png', f'{stem}.png'), wanted(f'{stem}.tif')])
    assert len({*found}) == 2
    assert all(len(name.encode()) <= 255 for name in found)
    assert all(name.endswith('.png') for name in found)
