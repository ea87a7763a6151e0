"""Gives mutated files and settings to the package's entry points, by the thousand.

Whatever comes in, one of two things may happen: it is used, or a `UserError` says what is wrong.
Each case has 5 s of processor time and 2 GiB; nothing is written outside the folder of output, no
program is started, no name is looked up for a pickle but those that weights need.

    python tests/fuzz.py                    # 24,000 cases
    python tests/fuzz.py --scale=0.02       # what the tests run
    python tests/fuzz.py --kinds=png,theta --seed=3 --only=1234

Every case is a function of its kind, the seed and its number. What is found is printed with these,
so that `--only` repeats it.
"""

import argparse
import collections
import contextlib
import copy
import functools
import io
import json
import os
import pathlib
import pickle
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parent)]

import helpers  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
from ml_collections import config_dict  # noqa: E402
from PIL import Image  # noqa: E402

import metastyle_jax  # noqa: E402
from metastyle_jax.core import errors  # noqa: E402
from metastyle_jax.core import files as core_files  # noqa: E402
from metastyle_jax.core.devices import sharding  # noqa: E402
from metastyle_jax.data.images import image_files, image_writing  # noqa: E402
from metastyle_jax.models import transformer, vgg  # noqa: E402
from metastyle_jax.storage import checkpoints, run_folder, style_files, tensor_files, theta_files  # noqa: E402
from metastyle_jax.training import train, training_state  # noqa: E402
from metastyle_jax.training.configuration import files, values  # noqa: E402

adapt, stylize = (helpers.command_module(name) for name in ('adapt', 'stylize'))

SECONDS = 5  # of processor time for a case; 12 times that of the wall clock
GIB = 2
CASES = {
    **dict.fromkeys(('jpeg', 'png', 'webp', 'gif', 'tiff'), 2800),
    **{'style': 3000, 'theta': 2500, 'vgg': 2000, 'config': 2000, 'flags': 300, 'run': 200},
}  # fmt: skip
ROOT = pathlib.Path(__file__).parents[1]


# Seeds of the mutations.


def picture_seeds(kind: str) -> list[bytes]:
    """Small pictures of a format, with what its files may hold."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (24, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []

    def add(array: Any, mode: str | None = None, **options: Any) -> None:
        image = Image.fromarray(array)
        image = image.convert(mode) if mode else image
        encoded = io.BytesIO()
        image.save(encoded, kind, **options)
        made.append(encoded.getvalue())

    second = Image.fromarray(rgb[::-1].copy())
    profile = _profile()
    if kind == 'jpeg':
        add(rgb, exif=exif, icc_profile=profile)
        add(rgb, progressive=True)
        add(rgb, 'CMYK')
        add(rgb[..., 0])
    elif kind == 'png':
        add(rgb, exif=exif, icc_profile=profile)
        add(rgb, 'RGBA')
        add(rgb, 'P')
        add((rgb[..., 0].astype(np.uint16)) * 257)
        add(rgb, save_all=True, append_images=[second], duration=9)
    elif kind == 'webp':
        add(rgb, exif=exif, icc_profile=profile)
        add(rgb, 'RGBA', lossless=True)
        add(rgb, save_all=True, append_images=[second], duration=9)
    elif kind == 'gif':
        add(rgb, 'P')
        add(rgb, save_all=True, append_images=[second], duration=9, transparency=3)
    else:
        for compression in (None, 'tiff_lzw', 'tiff_deflate', 'jpeg', 'packbits', 'group4'):
            add(rgb, '1' if compression == 'group4' else None, compression=compression)
        add(rgb[..., 0].astype(np.float32))
        add(rgb, save_all=True, append_images=[second])
    return made


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def make_theta() -> Any:
    """θ of the narrowest network."""
    return transformer.init(jax.random.key(0), width=2, blocks=1)


# Mutations.

WORDS = tuple(
    struct.pack(form, value)
    for value in (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
    for form in ('>I', '<I')
) + (b'\xff', b'\x00', b'\xff\xff', b'\x00\x00', b'\x36\xb0\x36\xb0')


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Flips, overwrites, cuts, repeats, splices; a few times."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 32))):
        if not out:
            break
        # Headers decide the most, and are short.
        at = rng.randrange(len(out) if rng.random() < 0.5 else min(len(out), 64))
        span = rng.choice((1, 2, 4, 16, 256, 4096))
        kind = rng.randrange(8)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            word = rng.choice(WORDS)
            out[at : at + len(word)] = word
        elif kind == 3:
            del out[at : at + span]
        elif kind == 4:
            out[at:at] = out[at : at + span] * rng.choice((1, 2, 50))
        elif kind == 5:
            del out[at:]
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            out[at : at + span] = other[start : start + span]
        else:
            out[at : at + span] = rng.randbytes(span)
    return bytes(out)


TEXTS = (
    '', '{', '[]', 'null', '{"a": 1e999}', '{"a": ' + '1' * 5000 + '}', '[' * 100_000, '"\\ud800"',
    '{"a": ' * 50_000, '../../x', '\x00', '-1', 'NaN', 'all', 'norm', 'none', '💥' * 1000,
)  # fmt: skip


def mutate_tensors(
    flat: dict[str, np.ndarray], metadata: dict[str, str], rng: random.Random
) -> bytes:
    """A file that is whole, its checksum right, and its contents not what is expected."""
    flat, metadata = dict(flat), dict(metadata)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(sorted(flat)) if flat else 'x'
        array = flat.get(name, np.zeros(2, np.float32))
        kind = rng.randrange(9)
        if kind == 0:
            flat.pop(name, None)
        elif kind == 1:
            shapes: tuple[tuple[int, ...], ...] = (
                (),
                (0,),
                (1,),
                (0, 3),
                (2, 2),
                array.shape[::-1],
            )
            flat[name] = np.ones(rng.choice(shapes), np.float32)
        elif kind == 2:
            flat[name] = np.full(array.shape, rng.choice((np.nan, np.inf, 1e38, -1e38)), np.float32)
        elif kind == 3:
            kinds = (np.float16, np.float64, np.int8, np.int64, np.bool_, np.uint16)
            flat[name] = array.astype(rng.choice(kinds))
        elif kind == 4:
            new = ('', '/', 'a//b', name + '/x', '../' + name, 'block9/x', 'rates/' + name, 'ä\n')
            flat[rng.choice(new)] = flat.pop(name, array)
        elif kind == 5:
            for i in range(rng.choice((1, 10, 3000))):
                flat[f'block{i + 1}/{rng.choice(("x", "first/conv/kernel"))}'] = array
        elif kind == 6:
            metadata[rng.choice(sorted(metadata))] = rng.choice(TEXTS)
        elif kind == 7:
            metadata.pop(rng.choice(sorted(metadata)))
            metadata.setdefault('format', '')
        else:
            flat['down1/conv/kernel'] = np.ones((9, 9, 3, rng.choice((0, 1, 3, 5000))), np.float32)
    if rng.random() < 0.9:
        metadata['sha256'] = tensor_files.sha256(flat)
    return safetensors.numpy.save(flat, metadata)


CANARY = 'canary'  # a file that hostile pickles would make


def hostile_pickle(rng: random.Random, folder: pathlib.Path) -> bytes:
    """Asks for functions, for memory, or for neither in the right way."""
    target = str(folder / CANARY)
    calls = (
        f'cos\nsystem\n(Vtouch {target}\ntR.',
        f"cbuiltins\nexec\n(Vopen('{target}', 'w')\ntR.",
        f"cbuiltins\neval\n(Vopen('{target}', 'w')\ntR.",
        f'cposix\nmkdir\n(V{target}\ntR.',
        'ctorch._utils\n_rebuild_tensor_v2\n(I1\nI2\n(lp0\ntR.',
        'ccollections\nOrderedDict\n(tR(Vitems\nccollections\nOrderedDict\ndb.',
        'cnumpy.core.multiarray\n_reconstruct\n(tR.',
        'cmetastyle_jax.weights\nos.system\n(V' + f'touch {target}\ntR.',
    )
    binary = (
        b'\x80\x02}r\xff\xff\xff\x7f.',  # a memo of 2**31 entries
        b'\x80\x02}r\xff\xff\xff\x0f.',
        b'\x80\x04\x8e' + struct.pack('<Q', 2**40) + b'x.',
        b'\x80\x04\x8d' + struct.pack('<Q', 2**34) + b'x.',
        b'\x80\x04\x95' + struct.pack('<Q', 2**62) + b'}.',
        b'\x80\x02\x8b' + struct.pack('<I', 2**31 - 1) + b'x.',
        b'\x80\x02' + b'(' * 200_000 + b'.',
        b'\x80\x02' + b']' + b'2' * 1000 + b'a' * 999 + b'.',
        b'I' + b'9' * 100_000 + b'\n.',
        b'\x80\x02]' * 1 + b']a' * 100_000 + b'.',
    )
    return rng.choice((*(call.encode() for call in calls), *binary))


def mutate_weights(
    seeds: dict[str, list[bytes]], rng: random.Random, folder: pathlib.Path
) -> tuple[str, bytes]:
    """A file of VGG weights, and its suffix."""
    suffix = rng.choice(sorted(seeds))
    seed = rng.choice(seeds[suffix])
    kind = rng.randrange(4)
    if kind == 0 and suffix == '.pth':
        hostile = hostile_pickle(rng, folder)
        if rng.random() < 0.5:
            return suffix, hostile
        if rng.random() < 0.5:  # where a legacy file has its state dict
            head = b''.join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001))
            return suffix, head + pickle.dumps({'little_endian': True}, 2) + hostile
        return suffix, _zip({'x/data.pkl': hostile, '../../' + CANARY: b'x'})
    if kind == 1 and suffix == '.npz':
        return suffix, npz_bomb(rng, folder)
    return suffix, mutate(seed, rng, seeds[suffix])


def npz_bomb(rng: random.Random, folder: pathlib.Path) -> bytes:
    """Arrays far larger than the file, said to be or zipped; or of Python objects."""
    name = f'conv1_1/{rng.choice(("kernel", "bias"))}.npy'
    kind = rng.randrange(3)
    shape = rng.choice(((3, 3, 3, 2), (2**20,), (2**30,), (2**33,), (2**60,), (2**31, 2**31)))
    head = {'descr': '<f8', 'fortran_order': False, 'shape': shape}
    body = b''
    if kind == 0:  # as it says
        body = bytes(min(int(np.prod(shape, dtype=object)) * 8, 2**29))
    elif kind == 1:
        head['descr'] = '|O'
        body = hostile_pickle(rng, folder)
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, head)
    return _zip({name: made.getvalue() + body}, zipfile.ZIP_DEFLATED)


def _zip(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w', compression, compresslevel=1) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


VALUES: tuple[Any, ...] = (
    0, 1, -1, 2, 15, 16, 17, 10**9, 2**31, 2**63, 10**400, 0.0, -0.0, 1e-300, 1e300, -1.5,
    float('nan'), float('inf'), float('-inf'), True, False, None, '', 'x', 'all', 'norm', '\x00',
    'folder:', 'folder:/', 'folder:/nowhere', 'sample:', 'tfds:', 'tfds:../..', 'tfds:a/b:c',
    'hf://', 'hf://../..', '/dev/null', '/proc/self/mem', '.', '💥', 'a' * 5000, (), ('x',), [1],
    {}, {'a': 1}, b'x', object(),
)  # fmt: skip


# Entry points. Each is given a case and does what a user would do with it.


class World:
    """All that the cases of one process share.

    Args:
        folder: for the files that cases make.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.theta = make_theta()
        self.settings = {'steps': 1}
        self._seeds: dict[str, Any] = {}
        theta = folder / 'theta.safetensors'
        theta_files.save_theta(theta, self.theta, settings=self.settings, overwrite=True)
        self.theta_file = theta
        self.loaded = theta_files.load_theta(theta)
        style = style_files.Style(
            params=tensor_files.flatten(self.theta), adapted='all', style_name='x',
            style_sha256='0',
            theta_sha256=self.loaded.fingerprint, settings={'a': 1}, losses={'total': [1.0]},
        )  # fmt: skip
        self.style = style
        self.style_file = folder / 'style.safetensors'
        style_files.save_style(self.style_file, style, overwrite=True)
        self.photo = folder / 'photo.png'
        image_writing.write(self.photo, np.full((16, 24, 3), 0.5), overwrite=True)
        self.out = folder / 'out'
        self.out.mkdir(exist_ok=True)

    def seeds(self, kind: str, make: Callable[[], Any]) -> Any:
        """What is mutated, made once."""
        if kind not in self._seeds:
            self._seeds[kind] = make()
        return self._seeds[kind]

    def picture(self, kind: str, rng: random.Random) -> None:
        """Reads a picture in each of the ways; now and then stylizes it."""
        seeds = self.seeds(kind, lambda: picture_seeds(kind))
        data = mutate(rng.choice(seeds), rng, seeds)
        file = self.folder / f'case.{kind}'
        file.write_bytes(data)
        problems = []
        for read in (
            lambda: image_files.probe(file),
            lambda: image_files.read_uint8(data, min_side=16),
            lambda: image_files.read(file),
        ):
            try:
                read()
            except errors.UserError as error:
                problems.append(error)
        if not problems and rng.random() < 0.02:
            picture = metastyle_jax.stylize(self.style, file, max_size=24)
            assert np.isfinite(picture).all()
            image_writing.write(self.out / 'x.png', picture, overwrite=True)
        if problems:
            raise problems[0]

    def tensors(self, kind: str, rng: random.Random) -> None:
        """Reads a style or a θ and uses it."""
        source = self.style_file if kind == 'style' else self.theta_file
        data = self.seeds(kind, source.read_bytes)
        if rng.random() < 0.5:
            data = mutate(data, rng, [data])
        else:
            with safetensors.safe_open(source, 'np') as opened:
                metadata = opened.metadata()
                flat = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            data = mutate_tensors(flat, metadata, rng)
        file = self.folder / f'case-{kind}.safetensors'
        file.write_bytes(data)
        if kind == 'style':
            found = style_files.load_style(file)
            json.dumps(found.settings)
            metastyle_jax.stylize(found, self.photo, theta=rng.choice((None, self.loaded)))
        else:
            theta = theta_files.load_theta(file)
            transformer.check(theta.params)

    def vgg(self, kind: str, rng: random.Random) -> None:
        """Reads weights of the loss network."""
        suffix, data = mutate_weights(self.seeds(kind, self._weights), rng, self.out)
        file = self.folder / f'case{suffix}'
        file.write_bytes(data)
        vgg.load(file, digest=None)

    def _weights(self) -> dict[str, list[bytes]]:
        sys.path.insert(0, str(ROOT / 'tests'))
        import helpers

        params = helpers.own_arrays(vgg.random(jax.random.key(0), width=2))
        found = {'.pth': [x.read_bytes() for x in sorted((ROOT / 'tests/models').glob('*.pth'))]}
        for suffix in ('.npz', '.safetensors'):
            file = self.folder / f'weights{suffix}'
            helpers.save_arrays(file, params)
            found[suffix] = [file.read_bytes()]
        return found

    def config(self, kind: str, rng: random.Random) -> None:
        """Checks a configuration, and prepares a run as `train` does, up to its first step."""
        path = f'{ROOT}/configs/{rng.choice(("coco", "quickstart", "folder"))}.py:tiny'
        settings = self.seeds(path, lambda: values.as_dict(values.complete(files.load(path))))
        config = config_dict.ConfigDict(copy.deepcopy(settings))
        with config.ignore_type(), config.unlocked():
            for _ in range(rng.choice((1, 1, 2, 4))):
                section = rng.choice((None, *(k for k, v in config.items() if hasattr(v, 'keys'))))
                part = config if section is None else config[section]
                name = rng.choice(sorted(part) or ['x'])
                if rng.random() < 0.05 and name in part:
                    del part[name]
                else:
                    with contextlib.suppress(OverflowError):  # of ml_collections, before it is kept
                        part[name] = rng.choice(VALUES)
                if not hasattr(config.get('data'), 'keys'):
                    break
        prepare(config, self.out / 'run')
        if rng.random() < 0.3:
            file = self.out / 'config.json'
            text = json.dumps({'a': {'b': 1}}).encode()
            file.write_bytes(
                mutate(text, rng, [text, *(x.encode() for x in TEXTS if '\\' not in x)])
            )
            run_folder.write_config(self.out, {'a': {'b': 1}})

    def flags(self, kind: str, rng: random.Random) -> None:
        """Gives the commands odd flags."""
        command = rng.choice((stylize, adapt))
        theta = {'theta': self.theta_file, 'overwrite': True}
        base = {
            stylize: {'style': self.style_file, 'input': self.photo,
                      'output': self.out / 'o.png', **theta},
            adapt: {'style': self.photo, 'out': self.out / 'o.safetensors', 'steps': 0, **theta},
        }[command]  # fmt: skip
        names = {
            stylize: ('style', 'input', 'output', 'weights', 'strength', 'mask', 'feather', 'grid',
                      'animate', 'milliseconds', 'batch', 'theta', 'max_size', 'tile', 'steps'),
            adapt: ('style', 'theta', 'steps', 'rate', 'size', 'style_size', 'batch', 'params',
                    'content', 'inner_steps', 'seed', 'out'),
        }[command]  # fmt: skip
        chosen = {**base}
        for _ in range(rng.choice((1, 1, 2))):
            name, value = rng.choice(names), rng.choice(VALUES)
            if name in ('output', 'out'):  # only below the folder of output
                value = self.out / str(value).strip('/').replace('..', '_').replace('\x00', '')
            chosen[name] = value
        if chosen.get('steps') not in (0, -1) and command is adapt:
            chosen['steps'] = -1  # it would adapt
        sys.argv = ['x', *(f'--{name}={value}' for name, value in chosen.items())]
        messages = io.StringIO()
        with contextlib.redirect_stderr(messages):
            code = command.run_adapt() if command is adapt else command.run_stylize()
        if code:
            assert code == 2, (code, messages.getvalue())
            assert 'Traceback' not in messages.getvalue()
            raise errors.UserError(messages.getvalue())

    def run(self, kind: str, rng: random.Random) -> None:
        """Opens a run whose files are damaged, to resume it and for its θ."""
        original = self.folder / 'run'
        if not original.exists():
            with checkpoints.Manager(original / 'checkpoints') as manager:
                for step in (1, 2):
                    state = {'params': self.theta, 'step': step}
                    manager.save(step, state, data_state={'step': step}, metric=1.0 / step)
            run_folder.write_config(original, {'a': 1})
        folder = self.folder / 'case-run'
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        files = sorted(x for x in folder.rglob('*') if x.is_file() and x.stat().st_size)
        for _ in range(rng.choice((1, 1, 1, 3))):
            file = rng.choice(files)
            data = file.read_bytes()
            file.write_bytes(mutate(data, rng, [data]))
        problems = []
        try:
            transformer.check(theta_files.load_theta(folder).params)
        except errors.UserError as error:
            problems.append(error)
        with checkpoints.Manager(folder / 'checkpoints') as manager:
            found = manager.restore({'params': self.theta, 'step': 0})
        assert found is not None
        assert found.data_state == {'step': found.step}
        assert tensor_files.fingerprint(found.state['params']) == self.loaded.fingerprint
        if problems:
            raise problems[0]

    def warm(self, kind: str) -> None:
        """Does what the first case of a kind would spend its time on."""
        if kind == 'vgg':
            self.seeds(kind, self._weights)
        metastyle_jax.stylize(self.style, self.photo)
        transformer.check(self.theta)

    def case(self, kind: str) -> Callable[[str, random.Random], None]:
        """What is done with a kind."""
        own = {'style': self.tensors, 'theta': self.tensors}
        return own.get(kind) or getattr(self, kind, self.picture)


def prepare(config: Any, folder: pathlib.Path) -> None:
    """All that `train` does before its first step but reading weights and making folders."""
    config = values.complete(config)
    devices = sharding.count(config.outer.devices)
    sharding.check_divisible(config.outer.styles, devices)
    contents, painted = train.open_sources(config)
    theta = train.load_initialization(config, folder)
    create = functools.partial(
        training_state.create_state,
        config,
        theta=theta and theta.params,
        predictor=theta and theta.predictor,
    )
    with train.open_batches(config, contents, painted):
        jax.eval_shape(lambda: create(jax.random.key(config.seed)))


# The process that runs cases, and the one that watches it.

_watching = False
# Event -> number of its paths, and which argument is the descriptor of a folder.
CHANGES: dict[str, tuple[int, int | None]] = {
    'os.mkdir': (1, 2), 'os.remove': (1, 1), 'os.rmdir': (1, 1), 'os.rename': (2, 2),
    'os.link': (2, 2), 'os.symlink': (2, 2), 'os.truncate': (1, None), 'shutil.rmtree': (1, None),
}  # fmt: skip


def watch_writes(allowed: pathlib.Path, tell: Callable[[str], None]) -> None:
    """Tells of files that are written elsewhere, of programs, of names that pickles ask for."""
    # Commands make their cache folder at the start, and may write to it.
    harmless = (str(allowed), str(core_files.cache_folder()), '/dev/null', '/dev/shm', '/proc/self')

    def elsewhere(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return not os.path.abspath(os.fsdecode(path)).startswith(harmless)

    def hook(event: str, args: tuple) -> None:
        if not _watching:
            return
        if event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            if elsewhere(args[0]) and '__pycache__' not in str(args[0]):
                tell(f'opens {args[0]!r} to write')
        elif event in CHANGES:
            # What has the descriptor of a folder is a part of an rmtree, which is told of itself.
            paths, at = CHANGES[event]
            inside = at is not None and isinstance(args[at], int) and args[at] >= 0
            if not inside and any(elsewhere(x) for x in args[:paths]):
                tell(f'{event} {args!r}')
        elif event in ('os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen', 'os.fork',
                       'socket.connect'):  # fmt: skip
            tell(f'{event} {args!r}')

    sys.addaudithook(hook)


def work(kinds: list[str], counts: dict[str, int], seed: int, first: tuple[str, int]) -> None:
    """Runs cases and prints a line for each that is found, and one at the end of a kind."""
    global _watching
    folder = pathlib.Path(os.environ['FUZZ_FOLDER'])
    tempfile.tempdir = str(folder)
    place = (folder / 'place').open('w')
    found: list[str] = []
    watch_writes(folder, found.append)
    world = World(folder)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    base = _address_space()
    limit = (
        base + (GIB + 4) * 2**30
    )  # a case beyond GIB is found by its peak; this saves the machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for kind in kinds[kinds.index(first[0]) :]:
        tally: collections.Counter = collections.Counter()
        case = world.case(kind)
        world.warm(kind)
        for number in range(first[1] if kind == first[0] else 0, counts[kind]):
            place.seek(0)
            place.write(f'{kind} {number} ')
            place.flush()
            rng = random.Random(f'{kind} {seed} {number}')
            _reset_peak()
            signal.setitimer(signal.ITIMER_PROF, SECONDS * (6 if kind in ('flags', 'run') else 1))
            signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)
            _watching = True
            try:
                case(kind, rng)
                tally['used'] += 1
            except errors.UserError as error:
                tally['refused'] += 1
                text = str(error)
                if not text.strip():
                    found.append('says nothing')
            except BaseException as error:
                import traceback

                line = traceback.extract_tb(error.__traceback__)[-1]
                found.append(
                    f'{type(error).__name__}: {str(error)[:200]!r} '
                    f'({pathlib.Path(line.filename).name}:{line.lineno})'
                )
            finally:
                _watching = False
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            if (peak := _peak()) > GIB * 2**30:
                found.append(f'{peak / 2**30:.1f} GiB')
            if (world.out / CANARY).exists() or (folder.parent / CANARY).exists():
                found.append('code was run')
                (world.out / CANARY).unlink(missing_ok=True)
            tally['found'] += len(found)
            for what in found:
                print(json.dumps({'kind': kind, 'number': number, 'found': what}), flush=True)
            found.clear()
            if (number + 1) % 50 == 0:
                shutil.rmtree(world.out, ignore_errors=True)
                world.out.mkdir()
            if number % 25 == 24 or number + 1 == counts[kind]:
                print(json.dumps({'kind': kind, 'number': number, **tally}), flush=True)
                tally.clear()


def _status(name: str) -> int:
    for line in pathlib.Path('/proc/self/status').read_text().splitlines():
        if line.startswith(name + ':'):
            return int(line.split()[1]) * 1024
    return 0


def _peak() -> int:
    return _status('VmHWM')


def _address_space() -> int:
    return _status('VmSize')


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/clear_refs').write_text('5')


def fuzz(
    counts: dict[str, int], *, seed: int = 0, only: int | None = None, say: Callable = print
) -> tuple[dict[str, collections.Counter], list[dict[str, Any]]]:
    """Runs cases in a process of its own, which is started anew after a case that ended it.

    Args:
        counts: kind -> number of cases.
        seed: of all of them.
        only: one number alone.
        say: is told of each that is found.

    Returns:
        Kind -> how many were used, refused and found; and what was found.
    """
    kinds = [kind for kind in counts if counts[kind]]
    totals: dict[str, collections.Counter] = {kind: collections.Counter() for kind in kinds}
    found: list[dict[str, Any]] = []
    first: tuple[str, int] | None = (kinds[0], only or 0)
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top, 'fuzz')
        folder.mkdir()
        while first is not None:
            limits = {kind: only + 1 for kind in kinds} if only is not None else counts
            command = [sys.executable, __file__, '--work', json.dumps([kinds, limits, seed, first])]
            with (
                (folder / 'said').open('w') as said,
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=said, text=True,
                    env={**os.environ, 'FUZZ_FOLDER': str(folder)},
                ) as process,
            ):  # fmt: skip
                assert process.stdout is not None
                for line in process.stdout:
                    told = json.loads(line)
                    kind, number = told.pop('kind'), told.pop('number')
                    if isinstance(told.get('found'), str):
                        found.append({'kind': kind, 'number': number, **told})
                        say(kind, number, told['found'])
                    else:
                        totals[kind].update(told)
            code, first = process.returncode, None
            if code:
                kind, number = (folder / 'place').read_text().split()[:2]
                why = {-signal.SIGPROF: f'ran longer than {SECONDS} s',
                       -signal.SIGALRM: f'waited longer than {12 * SECONDS} s'}  # fmt: skip
                what = why.get(code, f'ended by {code}: {(folder / "said").read_text()[-300:]}')
                found.append({'kind': kind, 'number': int(number), 'found': what})
                say(kind, number, what)
                totals[kind]['found'] += 1
                after = int(number) + 1
                if only is None and after < counts[kind]:
                    first = (kind, after)
                elif only is None and kind != kinds[-1]:
                    first = (kinds[kinds.index(kind) + 1], 0)
    return totals, found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scale', type=float, default=1.0, help='of the number of cases')
    parser.add_argument('--kinds', default=','.join(CASES))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, help='the number of one case')
    parser.add_argument('--work', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kinds, counts, seed, first = json.loads(options.work)
        work(kinds, counts, seed, tuple(first))
        return 0
    begun = time.monotonic()
    chosen = options.kinds.split(',')
    counts = {kind: max(1, round(CASES[kind] * options.scale)) for kind in chosen}
    totals, found = fuzz(counts, seed=options.seed, only=options.only)
    for kind, tally in totals.items():
        print(f'{kind:7}', *(f'{tally[name]:6} {name}' for name in ('used', 'refused', 'found')))
    print(f'{sum(counts.values())} cases in {time.monotonic() - begun:.0f} s, {len(found)} found')
    return bool(found)


if __name__ == '__main__':
    sys.exit(main())
