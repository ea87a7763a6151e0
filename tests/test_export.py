"""Exported styles: the same pixels from onnxruntime, StableHLO and PyTorch as from JAX."""

import importlib
import importlib.util
import json
import sys

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
import torch.nn.functional as F  # noqa: N812

import metastyle_jax
from metastyle_jax import checkpoint, export, looks, programs, styles, tensors, transformer

SIZES = [(1, 16, 16), (2, 17, 30), (1, 37, 23)]  # batch, height, width
TOLERANCE = 1e-4


def make_style(theta, seed, adapted='all'):
    """θ moved at random, by as much as adaptation moves it."""
    rng = np.random.default_rng(seed)
    flat = {
        name: array + rng.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in tensors.flatten(theta.params).items()
        if adapted == 'all' or 'norm' in name
    }
    return styles.Style(flat, adapted, f'{seed}.jpg', 'ab' * 32, theta.fingerprint, {}, {})


@pytest.fixture(scope='module')
def theta(tmp_path_factory):
    params = transformer.init(jax.random.key(0), width=4, blocks=1)
    path = tmp_path_factory.mktemp('theta') / 'theta.safetensors'
    checkpoint.save_theta(path, params, settings={})
    return path


@pytest.fixture(scope='module')
def style(theta):
    return make_style(checkpoint.load_theta(theta), 1)


@pytest.fixture(scope='module')
def other(theta):
    return make_style(checkpoint.load_theta(theta), 2, 'norm')


def noise(size):
    return np.random.default_rng(sum(size)).random((*size, 3), np.float32)


def stylized(images, *arguments, **options):
    return np.stack([metastyle_jax.stylize(*arguments, image, **options) for image in images])


@pytest.fixture(scope='module')
def wanted(style):
    """What JAX makes of each size."""
    return {size: stylized(noise(size), style) for size in SIZES}


@pytest.mark.parametrize('format', ['onnx', 'stablehlo'])
def test_one_program_takes_any_size_and_number(style, wanted, tmp_path, format, disagreement):
    done = metastyle_jax.export_style(style, tmp_path / f'a.{format}', check=False)
    assert done == (tmp_path / f'a.{format}', format, done.path.stat().st_size, None)
    load = programs.load_onnx if format == 'onnx' else programs.load_stablehlo
    run = load(done.path)
    for size in SIZES:
        disagreement(run(noise(size)), wanted[size], TOLERANCE)
