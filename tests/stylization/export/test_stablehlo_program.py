"""StableHLO programs: they open with JAX alone, and tell nothing of the machine they come from."""

import pathlib
import re

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import program, stablehlo_program

PARAMS = transformer.init(jax.random.key(0), width=2, blocks=1)
NETWORK = styled_network.StyledNetwork(PARAMS)


@pytest.fixture(scope='module')
def data():
    return stablehlo_program.to_stablehlo(NETWORK)


def test_the_example_on_the_page_needs_jax_flatbuffers_and_pillow_alone(data, tmp_path):
    text = (helpers.ROOT / 'docs' / 'export.md').read_text()
    (example,) = re.findall(r'```python\n(?!import metastyle_jax)(.*?)```', text, re.DOTALL)
    assert len(example.splitlines()) <= 10
    (tmp_path / 'painting.stablehlo').write_bytes(data)
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    example = example.replace('photo.jpg', 'photo.png')
    block = """
        import os, sys
        os.chdir(sys.argv[1])
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition('.')[0] in ('metastyle_jax', 'flax', 'optax', 'orbax'):
                    raise ImportError(f'{name} is blocked')
        sys.meta_path.insert(0, Blocker())
        exec(sys.argv[2])
    """
    process = helpers.run_python(block, tmp_path, example)
    assert process.returncode == 0, process.stderr
    with Image.open(tmp_path / 'out.png') as opened:
        made = np.asarray(opened, np.float32)
    wanted = transformer.apply_with_margin(PARAMS, photo[None].astype(np.float32) / 255)[0]
    assert np.max(np.abs(made - 255 * np.asarray(wanted))) < 0.51


def test_no_path_of_this_machine_is_in_the_file(data):
    for word in (str(helpers.ROOT), 'transformer.py', str(pathlib.Path.home())):
        assert word.encode() not in data


@pytest.mark.parametrize('size', [(17, 30), (2, 32, 20)])
def test_a_program_of_a_fixed_size_has_it_and_takes_no_other(size):
    made = stablehlo_program.to_stablehlo(NETWORK, size=size)
    module = jax.export.deserialize(bytearray(made)).mlir_module()
    n = size[0] if len(size) == 3 else '?'
    assert f'tensor<{n}x{size[-2]}x{size[-1]}x3xf32>' in module
    run = stablehlo_program.load_stablehlo(made)
    images = np.random.default_rng(0).random((2, *size[-2:], 3), np.float32)
    wanted = jax.jit(program.pixel_function(NETWORK))(images)
    np.testing.assert_allclose(run(images), wanted, atol=1e-5)
    with pytest.raises(UserError, match=rf'{size[-2]}, {size[-1]}, 3\] is needed$'):
        run(images[:, 1:])
