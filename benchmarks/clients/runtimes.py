"""How each Python runtime opens an exported style.

This file is executed in the virtual environment of the runtime, so it imports nothing of this
project. Each function takes the file of a program, the height and width of the images to come and a
folder for converted files, and returns a function of images `[1, H, W, 3]` to the same.
"""

# mypy: disable-error-code="import-not-found, import-untyped, attr-defined"
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
Size = tuple[int, int]
THREADS = 2


def _convert(program: str, *arguments: Any, folder: pathlib.Path) -> None:
    """Runs a converter that is installed beside this Python."""
    path = pathlib.Path(sys.executable).parent / program
    words = [str(path), *map(str, arguments)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'{program}: {(done.stdout + done.stderr).strip()[-400:]}')


def onnxruntime(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Microsoft's runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    return lambda images: session.run(None, {'images': images})[0]


def reference(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """The definition of ONNX, in NumPy."""
    import onnx.reference

    session = onnx.reference.ReferenceEvaluator(str(file))
    return lambda images: session.run(None, {'images': images})[0]


def openvino(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Intel's runtime."""
    import openvino

    core = openvino.Core()
    options = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': THREADS}
    compiled = core.compile_model(core.read_model(str(file)), 'CPU', options)
    return lambda images: compiled(images)[0]


def opencv(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """The module dnn of OpenCV."""
    import cv2

    cv2.setNumThreads(THREADS)
    network = cv2.dnn.readNetFromONNX(str(file))
    if cv2.__version__.startswith('4'):
        network.enableWinograd(False)

    def run(images: np.ndarray) -> np.ndarray:
        network.setInput(images)
        return network.forward()

    return run


def tract(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Sonos' runtime, written in Rust."""
    import tract

    model = tract.onnx().load(str(file))
    kind = 'u8' if 'uint8' in file.name else 'f32'
    model.set_input_fact(0, f'1,{size[0]},{size[1]},3,{kind}')
    model.set_output_fact(0, None)
    runnable = model.into_model().into_runnable()
    return lambda images: runnable.run([images])[0].to_numpy()


def tinygrad(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """The framework tinygrad."""
    os.environ['DEV'] = 'CPU'
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner

    runner = OnnxRunner(str(file))
    return lambda images: runner({'images': Tensor(images)})['stylized'].numpy()


def torch(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """PyTorch, by the converter onnx2torch."""
    import torch

    torch.set_num_threads(THREADS)
    network = _to_torch(file)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.tensor(images)).numpy()

    return run


def _to_torch(file: pathlib.Path) -> Any:
    """Converts a program to a module of PyTorch."""
    from unittest import mock

    # onnx2torch imports torchvision for detectors only; its version must fit that of PyTorch.
    sys.modules['torchvision'] = sys.modules['torchvision.ops'] = mock.MagicMock()
    import onnx
    import onnx2torch

    return onnx2torch.convert(onnx.load(file)).eval()


def coreml(file: pathlib.Path, folder: pathlib.Path) -> None:
    """Converts a program of a fixed size to Core ML, which runs on macOS alone."""
    network = _to_torch(file)
    import coremltools
    import onnx
    import torch

    images = onnx.load(file).graph.input[0]
    shape = [dim.dim_value for dim in images.type.tensor_type.shape.dim]
    traced = torch.jit.trace(network, torch.zeros(shape))
    made = coremltools.convert(
        traced, inputs=[coremltools.TensorType('images', shape)], convert_to='mlprogram',
        compute_precision=coremltools.precision.FLOAT32,
    )  # fmt: skip
    made.save(str(folder / f'{file.stem}.mlpackage'))


def litert(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """TensorFlow Lite, now LiteRT, by the converter onnx2tf."""
    # onnx2tf looks for this file and would download it; its own check of the model is not used.
    pictures = folder / 'calibration_image_sample_data_20x128x128x3_float32.npy'
    np.save(pictures, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    # Without -kat, images would be channels first in and channels last out.
    _convert('onnx2tf', '-i', file, '-o', folder / file.stem, '-n', '-kat', 'images', folder=folder)
    from ai_edge_litert import interpreter

    path = folder / file.stem / f'{file.stem}_float32.tflite'
    network = interpreter.Interpreter(str(path), num_threads=THREADS)
    network.allocate_tensors()
    (images_in,), (stylized,) = network.get_input_details(), network.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        network.set_tensor(images_in['index'], images)
        network.invoke()
        return network.get_tensor(stylized['index'])

    return run


def mnn(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Alibaba's runtime."""
    out = folder / f'{file.stem}.mnn'
    _convert('mnnconvert', '-f', 'ONNX', '--modelFile', file, '--MNNModel', out, folder=folder)
    import MNN

    config = {'backend': 'CPU', 'numThread': THREADS, 'precision': 'high'}
    manager = MNN.nn.create_runtime_manager((config,))
    winograd = 3  # the hint WINOGRAD_MEMORY_LEVEL; 0 is without Winograd
    manager.set_hint(winograd, 0)
    network = MNN.nn.load_module_from_file(
        str(out), ['images'], ['stylized'], runtime_manager=manager
    )
    expr = MNN.expr

    def run(images: np.ndarray) -> np.ndarray:
        kind = expr.uint8 if images.dtype == np.uint8 else expr.float
        given = expr.placeholder(list(images.shape), expr.NCHW, kind)
        given.write(images)
        made = expr.convert(network.forward(given), expr.NCHW)
        return np.array(made.read()).reshape(images.shape)

    return run


def ncnn(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Tencent's runtime for phones, by the converter pnnx."""
    copy = folder / f'{file.stem}.onnx'
    copy.write_bytes(file.read_bytes())  # pnnx writes beside its input
    _convert('pnnx', copy.name, 'fp16=0', folder=folder)
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = THREADS
    for option in ('fp16_storage', 'fp16_arithmetic', 'fp16_packed'):
        setattr(network.opt, f'use_{option}', False)
    stem = folder / file.stem.replace('-', '_')
    if network.load_param(f'{stem}.ncnn.param') or network.load_model(f'{stem}.ncnn.bin'):
        raise RuntimeError('ncnn cannot load what pnnx wrote')

    def run(images: np.ndarray) -> np.ndarray:
        extractor = network.create_extractor()
        extractor.input('in0', ncnn.Mat(images[0]).clone())
        _, made = extractor.extract('out0')
        return np.array(made)[None]

    return run


def tvm(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """Apache TVM, without tuning."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = from_onnx(
        onnx.load(file), shape_dict={'images': [1, *size, 3]}, keep_params_in_input=False
    )
    machine = relax.VirtualMachine(relax.build(module, target='llvm'), tvm.cpu())
    return lambda images: machine['main'](tvm.runtime.tensor(images)).numpy()


def jax(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """JAX, without this package."""
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray(file.read_bytes())).call)
    return lambda images: np.asarray(call(images))


def iree_onnx(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """IREE, by its importer of ONNX."""
    module = folder / f'{file.stem}.mlir'
    _convert('iree-import-onnx', file, '-o', module, '--opset-version', 17, folder=folder)
    return _iree(module, 'onnx', folder)


def iree_stablehlo(file: pathlib.Path, size: Size, folder: pathlib.Path) -> Run:
    """IREE, from StableHLO."""
    from jax import export

    module = folder / f'{file.stem}.mlir'
    module.write_text(export.deserialize(bytearray(file.read_bytes())).mlir_module())
    run = _iree(module, 'stablehlo', folder)
    platform = np.int32(0)  # the program serves several platforms; the first is the CPU
    return lambda images: run(platform, images)


def _iree(module: pathlib.Path, kind: str, folder: pathlib.Path) -> Callable[..., np.ndarray]:
    """Compiles a module for this CPU, and opens it."""
    out = module.with_suffix('.vmfb')
    _convert(
        'iree-compile', module, f'--iree-input-type={kind}', '--iree-hal-target-device=local',
        '--iree-hal-local-target-device-backends=llvm-cpu', '--iree-llvmcpu-target-cpu=host',
        '-o', out, folder=folder,
    )  # fmt: skip
    import iree.runtime

    loaded = iree.runtime.load_vm_flatbuffer_file(str(out), driver='local-task')
    name = 'main' if kind == 'stablehlo' else 'metastyle'
    return lambda *arguments: np.asarray(loaded[name](*arguments))
