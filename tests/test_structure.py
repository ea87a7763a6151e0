"""The structure of the package: which room may import which, sizes, names, and JAX's private parts.

A room is a folder of the package. docs/architecture.md describes the rooms.
"""

import ast
import collections
import functools
import pathlib
import re

import helpers

PACKAGE = helpers.ROOT / 'metastyle_jax'

_BELOW_STORAGE = {'core', 'meta', 'models', 'data'}
_BELOW_ACTS = {*_BELOW_STORAGE, 'storage'}
_BELOW_TOP = {*_BELOW_ACTS, 'training', 'adaptation', 'stylization'}
# Room: the other rooms that its modules may import.
MAY_IMPORT = {
    'core': set(),
    'meta': {'core'},
    'models': {'core'},
    'data': {'core'},
    'storage': _BELOW_STORAGE,
    # These three do not import each other: what two of them need belongs to a room below.
    'training': _BELOW_ACTS,
    'adaptation': _BELOW_ACTS,
    'stylization': _BELOW_ACTS,
    'instant': _BELOW_TOP,
    'baselines': _BELOW_TOP,
    'evaluation': {*_BELOW_TOP, 'baselines'},
    'ui': {*_BELOW_TOP, 'instant', 'baselines', 'evaluation'},
}
# Modules outside of rooms that every room may import.
ROOT_MODULES = {'_version'}

# Parts of JAX that may change without notice in any release.
PRIVATE_MODULES = (
    'jax._src',
    'jax.interpreters',
    'jax.extend',
    'jax.core',
    'jax.custom_derivatives',
)
PRIVATE_ATTRIBUTES = {'_cache_size', 'manual_axis_type', 'get_abstract_mesh', 'debug_info'}

MAX_LINES = 300
MAX_MODULES = 10


def modules():
    """All files of the package, as paths relative to it."""
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob('*.py'))


@functools.cache
def parsed(path):
    return ast.parse((PACKAGE / path).read_text())


def room(path):
    """First folder of a file's path; '' for a file directly in the package."""
    return path.parts[0] if len(path.parts) > 1 else ''


def imported_names(path):
    """Dotted names of everything that a module imports, imports inside functions included."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: write imports with the full name of the package'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def imports_of_the_package(path):
    """What a module imports from the package, as dotted names relative to it."""
    for name in imported_names(path):
        first, _, rest = name.partition('.')
        if first == 'metastyle_jax':
            yield rest


def test_rooms_import_only_what_lies_below_them():
    wrong = []
    for path in modules():
        if not room(path):
            continue
        allowed = {room(path), *MAY_IMPORT[room(path)], *ROOT_MODULES}
        wrong += [
            f'{path} imports {name or "the top of the package"}'
            for name in imports_of_the_package(path)
            if name.partition('.')[0] not in allowed
        ]
    assert not wrong


def test_every_room_has_an_import_rule():
    rooms = {room(path) for path in modules()} - {''}
    assert rooms <= set(MAY_IMPORT)


def test_nothing_imports_a_launcher():
    """Launchers lie at the top, for `python -m metastyle_jax.NAME`; the work is done in rooms."""
    launchers = {path.stem for path in modules() if not room(path)} - ROOT_MODULES - {'__init__'}
    for path in modules():
        found = {name.partition('.')[0] for name in imports_of_the_package(path)} & launchers
        assert not found, f'{path} imports {found}'


def test_meta_loads_nothing_but_jax_optax_and_numpy():
    script = """
        import sys
        import {}
        print(*sorted({{name.partition('.')[0] for name in sys.modules}}))
    """
    loaded = []
    for names in ('jax, jax.numpy, numpy, optax', 'metastyle_jax.meta'):
        process = helpers.run_python(script.format(names))
        assert process.returncode == 0, process.stderr
        loaded.append(set(process.stdout.split()))
    assert loaded[1] - loaded[0] == {'metastyle_jax'}
    assert 'optax' in loaded[1]


def test_the_distribution_of_meta_alone_has_every_module_that_meta_loads():
    listed = re.search(
        r'^CORE = (\(.*\))$', (helpers.ROOT / 'launch/meta/setup.py').read_text(), re.M
    )
    process = helpers.run_python("""
        import sys
        import metastyle_jax.meta
        print(*(n for n in sys.modules if n.startswith('metastyle_jax.core.')))
    """)
    loaded = {name.rpartition('.')[2] for name in process.stdout.split()}
    assert loaded == {*ast.literal_eval(listed[1])} - {'__init__'}


def test_private_parts_of_jax_are_used_in_one_module_only():
    wrong = []
    for path in modules():
        if path == pathlib.Path('core/jax_compat.py'):
            continue
        names = {*imported_names(path)}
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute):
                names.add(ast.unparse(node))
                if node.attr in PRIVATE_ATTRIBUTES:
                    wrong.append(f'{path} reads the attribute {node.attr}')
        wrong += [
            f'{path} uses {name}'
            for name in names
            for private in PRIVATE_MODULES
            if name == private or name.startswith(f'{private}.')
        ]
    assert not wrong


def test_only_one_module_names_pmap_and_meshes():
    names = {'pmap', 'Mesh', 'NamedSharding', 'make_mesh'}
    users = {
        path.as_posix()
        for path in modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in names
    }
    assert users == {'core/devices/sharding.py'}


def test_no_two_public_classes_share_a_name():
    places = collections.defaultdict(list)
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                places[node.name].append(path.as_posix())
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_modules_are_short():
    lines = {path.as_posix(): len((PACKAGE / path).read_text().splitlines()) for path in modules()}
    assert not {name: n for name, n in lines.items() if n > MAX_LINES}


def test_rooms_have_few_modules():
    rooms = collections.Counter(
        path.parent.as_posix() for path in modules() if room(path) and path.stem != '__init__'
    )
    assert not {name: n for name, n in rooms.items() if n > MAX_MODULES}
