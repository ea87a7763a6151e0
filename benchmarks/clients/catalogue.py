"""The programs that open exported styles, what each needs, and what is known of its limits.

`bash launch/clients.sh` installs what the entries name. Each client has a virtual environment of
its own, since their dependencies contradict each other.
"""

from typing import NamedTuple

NODE = 'node'  # the environment of what npm installs
_IREE = ('iree-base-compiler[onnx]==3.13.0', 'iree-base-runtime==3.13.0', 'numpy')
_NPM = '==1.30.0'
_JAX = ('jax==0.10.2', 'flatbuffers')


class Client(NamedTuple):
    """A program that opens exported styles.

    Attributes:
        name: as it stands in the table.
        opener: function of `runtimes` that opens a program, or of the page for browsers.
        environment: folder of its virtual environment, or `NODE`.
        packages: what pip installs there.
        format: 'onnx' or 'stablehlo'.
        takes: names of the variants that it takes with any number, height and width; in the others
            all three are fixed.
        refuses: programs that it does not take, or computes wrongly.
        slow: whether it is measured on a small image only, since it needs too long for others.
        note: what users should know; it stands below the table.
    """

    name: str
    opener: str
    environment: str
    packages: tuple[str, ...] = ()
    format: str = 'onnx'
    takes: tuple[str, ...] = ('float32', 'float16', 'int8', 'uint8')
    refuses: tuple[str, ...] = ()
    slow: bool = False
    note: str = ''

    def needs_fixed_size(self, variant: str) -> bool:
        """Whether it is given this variant with a fixed number, height and width."""
        return variant not in self.takes

    @property
    def version(self) -> str:
        """Version of its first package."""
        return self.packages[0].partition('==')[2]


CLIENTS = (
    Client('onnxruntime', 'onnxruntime', 'onnxruntime', ('onnxruntime==1.32.0', 'numpy')),
    Client('onnxruntime-node', 'node', NODE, (f'onnxruntime-node{_NPM}',)),
    Client('onnxruntime-web (WebAssembly)', 'wasm', NODE, (f'onnxruntime-web{_NPM}',)),
    Client(
        'onnxruntime-web (WebGPU)', 'webgpu', NODE, (f'onnxruntime-web{_NPM}',),
        slow=True,
        note='WebGPU was emulated on the CPU (SwiftShader), so it has no times.',
    ),
    Client(
        'OpenVINO', 'openvino', 'openvino', ('openvino==2026.4.1', 'numpy'),
        note='The property `INFERENCE_PRECISION_HINT` was `f32`. Without it, some processors and '
        'all GPUs compute with 16 bits.',
    ),
    Client('OpenCV 5', 'opencv', 'opencv5', ('opencv-python-headless==5.0.0.93',)),
    Client(
        'OpenCV 4', 'opencv', 'opencv4', ('opencv-python-headless==4.14.0.94',), takes=(),
        note='It needs fixed sizes. `net.enableWinograd(False)` was called: with Winograd, the '
        'difference can exceed 1e-4. Bytes come out as float32.',
    ),
    Client('tract', 'tract', 'tract', ('tract==0.23.9', 'numpy')),
    Client(
        'PyTorch by onnx2torch', 'torch', 'torch',
        ('torch==2.13.0', 'onnx2torch==1.5.15', 'onnx', 'coremltools==9.0', 'numpy'),
        refuses=('float16', 'int8'),
        note='Kernels must be stored as float32. The converted program of a fixed size can be '
        'converted again, to Core ML, by coremltools 9.0. That was done; the result runs on macOS '
        'alone, so it was not run.',
    ),
    Client(
        'LiteRT by onnx2tf', 'litert', 'litert',
        ('ai-edge-litert==2.3.0', 'onnx2tf==1.29.24', 'tensorflow-cpu', 'tf_keras', 'psutil',
         'onnx-graphsurgeon', 'sng4onnx'),
        takes=(), refuses=('int8',),
        note='It needs fixed sizes, and kernels of float32 or float16.',
    ),
    Client(
        'MNN', 'mnn', 'mnn', ('MNN==3.6.1', 'numpy'),
        note='`set_hint(3, 0)` switched Winograd off: with it, the difference is 8e-4.',
    ),
    Client(
        'ncnn by pnnx', 'ncnn', 'ncnn', ('ncnn==1.0.20261020', 'pnnx==20261020', 'numpy'),
        takes=(), refuses=('uint8',),
        note='It needs fixed sizes. `pnnx` was called with `fp16=0`: otherwise it rounds all '
        'kernels to float16. It takes no bytes.',
    ),
    Client(
        'IREE', 'iree_onnx', 'iree', (*_IREE, *_JAX), takes=(), refuses=('uint8',),
        note='It needs fixed sizes. Its importer of ONNX takes bytes for signed numbers, so the '
        'output for uint8 is wrong.',
    ),
    Client('TVM', 'tvm', 'tvm', ('apache-tvm==0.27.0.post1', 'onnx', 'numpy'), slow=True),
    Client(
        'tinygrad', 'tinygrad', 'tinygrad', ('tinygrad==0.14.0', 'numpy'), slow=True,
        note='It needs the compiler clang.',
    ),
    Client(
        'onnx (ReferenceEvaluator)', 'reference', 'onnx', ('onnx==1.23.2', 'numpy'), slow=True,
    ),
    Client('JAX alone', 'jax', 'jax', (*_JAX, 'numpy'), format='stablehlo'),
    Client(
        'IREE from StableHLO', 'iree_stablehlo', 'iree', (*_IREE, *_JAX), format='stablehlo',
        takes=(),
        note='It needs fixed sizes.',
    ),
)  # fmt: skip


def environments() -> dict[str, list[str]]:
    """What is to be installed in each environment."""
    found: dict[str, list[str]] = {}
    for client in CLIENTS:
        packages = found.setdefault(client.environment, [])
        packages += [package for package in client.packages if package not in packages]
    return found


if __name__ == '__main__':  # for launch/clients.sh
    for environment, packages in environments().items():
        print(environment, *packages)
