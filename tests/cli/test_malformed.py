"""Malformed input, command by command: a short message that names it, an exit code, and no traceback."""

from __future__ import annotations

import pickle
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rela_zoo.cli import app, main
from rela_zoo.cli._boundary import guarded

# Arguments, and what the message has to name. ROOT is a folder with the files that `_made` writes.
CASES = [
    # the registry
    ("show nope", "nope"),
    ("show ''", "''"),
    ("show ROOT/nothing.yaml", "nothing.yaml"),
    ("show ROOT/list.yaml", "list.yaml"),
    ("show ROOT/escape.yaml", "title"),
    ("show ROOT/deep.yaml", "model_args.depth"),
    ("show ROOT/unclosed.yaml", "unclosed.yaml"),
    ("show ROOT/binary.yaml", "binary.yaml"),
    ("show random-", "random-"),
    ("show random-resnet51", "resnet51"),
    ("show hf://org/name", "org/name"),
    ("show hf://org/name@main", "org/name@main"),
    ("list --source foo", "foo"),
    ("list --licence gpl", "gpl"),
    ("list --pin no", "no"),
    ("list --min-dim x", "min-dim"),
    ("validate ROOT/nothing", "nothing"),
    ("validate ROOT/empty", "empty"),
    # embed
    ("embed nope ROOT/data --out ROOT/new", "nope"),
    ("embed random-resnet51 ROOT/data --out ROOT/new", "resnet51"),
    ("embed ROOT/badargs.yaml ROOT/data --out ROOT/new", "no_such_argument"),
    ("embed cifar10-resnet20 ROOT/nothing --out ROOT/new", "nothing"),
    ("embed cifar10-resnet20 ROOT/empty --out ROOT/new", "empty"),
    ("embed cifar10-resnet20 ROOT/pickled.npy --out ROOT/new", "pickled.npy"),
    ("embed cifar10-resnet20 ROOT/cut.parquet --out ROOT/new", "cut.parquet"),
    ("embed cifar10-resnet20 ROOT/no-images --out ROOT/new", "no-images"),
    ("embed cifar10-resnet20 ROOT/broken --out ROOT/new", "b.png"),
    ("embed cifar10-resnet20 ROOT/broken --out ROOT/new --workers 1", "b.png"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/data/rows", "data/rows"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/empty/rows", "empty/rows"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/data2", "data2"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/new --device foo", "foo"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/new --dtype int8", "int8"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/new --batch-size 0", "batch-size"),
    ("embed cifar10-resnet20 ROOT/data --out ROOT/new --workers -1", "workers"),
    ("embed cifar10-resnet20 ROOT/data", "--out"),
    # transports
    ("transport fit ROOT/nothing --out ROOT/t", "nothing"),
    ("transport fit ROOT/data --out ROOT/t", "data"),
    ("transport fit ROOT/bad-index --out ROOT/t", "bad-index"),
    ("transport fit ROOT/e --out ROOT/empty/t", "empty/t"),
    ("transport fit ROOT/e --out ROOT/t --max-dim 0", "max-dim"),
    ("transport fit ROOT/e ROOT/e --out ROOT/t --method foo", "foo"),
    ("transport fit ROOT/e ROOT/e --out ROOT/t --max-dim 3", "max-dim"),
    ("transport show ROOT/nothing", "nothing"),
    ("transport show ROOT/empty", "empty"),
    ("transport show ROOT/data", "data"),
    ("transport show ROOT/garbage.safetensors", "garbage.safetensors"),
    ("transport show ROOT/pickle.safetensors", "pickle.safetensors"),
    ("transport apply ROOT/garbage.safetensors ROOT/e --out ROOT/new", "garbage.safetensors"),
    ("transport apply ROOT/t.safetensors ROOT/nothing --out ROOT/new", "nothing"),
    ("transport apply ROOT/t.safetensors ROOT/e --out ROOT/new --dim 9999", "9999"),
    ("transport apply ROOT/t.safetensors ROOT/e --out ROOT/empty/new", "empty/new"),
    ("transport chain ROOT/t.safetensors ROOT/t.safetensors ROOT/e ROOT/e --out ROOT/c", "t.safetensors"),
    ("transport chain ROOT/empty ROOT/empty ROOT/e ROOT/e --out ROOT/c", "empty"),
    ("transport nope", "nope"),
    # subsets
    ("subset replay ROOT/nothing", "nothing"),
    ("subset replay ROOT/data", "data"),
    ("subset replay ROOT/s --epoch 9", "epoch 9"),
    ("subset replay ROOT/s --epoch -1", "epoch"),
    ("subset replay ROOT/s --data ROOT/nothing", "nothing"),
    ("subset replay ROOT/s --data ROOT/data2", "samples of epoch 0"),
    ("subset replay ROOT/bad-subsets", "bad-subsets"),
    ("subset export ROOT/nothing --out ROOT/new --epochs 2", "nothing"),
    ("subset export ROOT/data --out ROOT/new --epochs 0", "epochs"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --data-ratio 7", "data_ratio"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --data-ratio nan", "data_ratio"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --data-ratio 0.01", "data_ratio"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --selection uniformm", "uniformm"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --selection '{name: ['", "selection"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --selection '{name: uniform, foo: 1}'", "foo"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --selection balanced", "rela.prior"),
    ("subset export ROOT/data --out ROOT/new --epochs 2 --selection loss --prior cifar10-resnet20", "loss"),
    ("subset export ROOT/data --out ROOT/empty/new --epochs 2", "empty/new"),
    ("subset export ROOT/data --out ROOT/s --epochs 2 --data-ratio 0.25", "s"),
    # compare and recommend
    ("compare ROOT/nothing ROOT/e", "nothing"),
    ("compare ROOT/e", "two priors"),
    ("compare ROOT/e ROOT/data", "data"),
    ("recommend --dataset ROOT/nothing", "nothing"),
    ("recommend nope --dataset ROOT/data", "images"),
    ("recommend", "--dataset"),
    # solo-learn, the Hub
    ("run ROOT/nothing.py", "nothing.py"),
    ("fetch nothing", "nothing"),
    ("pull nope", "nope"),
    ("publish nope", "nope"),
    ("nope", "nope"),
    ("--nope", "--nope"),
    # pretrain
    ("pretrain --config-name bylo", "byol"),
    ("pretrain --config-path ROOT/nothing", "nothing"),
    ("pretrain --config-path ROOT/conf --config-name unclosed", "unclosed.yaml"),
    ("pretrain --config-path ROOT/conf --config-name list", "list.yaml"),
    ("pretrain --config-name byol", "data.train_path"),
    ("pretrain data.train_path=ROOT/nothing", "data.train_path"),
    ("pretrain data.train_path=ROOT/no-images", "data.train_path"),
    ("pretrain data.train_path=ROOT/data optimizer.batch_size=64", "optimizer.batch_size"),
    ("pretrain data.train_path=ROOT/data optimizer.batchsize=4", "optimizer.batch_size"),
    ("pretrain data.train_path=ROOT/data +optimizer.lrr=4", "optimizer.lr"),
    ("pretrain data.train_path=ROOT/data optimizer.name=adamm", "adamw"),
    ("pretrain data.train_path=ROOT/data optimizer.lr=nan", "optimizer.lr"),
    ("pretrain data.train_path=ROOT/data method=bylo", "byol"),
    ("pretrain data.train_path=ROOT/data backbone.name=resnet19", "resnet18"),
    ("pretrain data.train_path=ROOT/data backbone.name=vit_tiny +backbone.kwargs.depth=300000", "kwargs.depth"),
    ("pretrain data.train_path=ROOT/data +backbone.kwargs.nope=1", "backbone"),
    ("pretrain data.train_path=ROOT/data accelerator=cpuu", "accelerator"),
    ("pretrain data.train_path=ROOT/data precision=17", "precision"),
    ("pretrain data.train_path=ROOT/data strategy=dpp", "strategy"),
    ("pretrain data.train_path=ROOT/data devices=none", "devices"),
    ("pretrain data.train_path=ROOT/data method_kwargs.proj_hidden_dim=-1", "method_kwargs.proj_hidden_dim"),
    ("pretrain data.train_path=ROOT/data name=a/b", "name"),
    ("pretrain data.train_path=ROOT/data checkpoint.dir=ROOT/empty/x", "checkpoint.dir"),
    ("pretrain data.train_path=ROOT/data checkpoint.dir=ROOT/data/x", "checkpoint.dir"),
    ("pretrain data.train_path=ROOT/data +resume_from_checkpoint=ROOT/no-ep=1.ckpt", "resume_from_checkpoint"),
    ("pretrain data.train_path=ROOT/data optimizer.batch_size=4 +resume_from_checkpoint=ROOT/empty", "empty"),
    ("pretrain data.train_path=ROOT/data optimizer.batch_size=4 +resume_from_checkpoint=ROOT/pickled.npy", ".npy"),
    ("pretrain data.train_path=ROOT/data data.on_error=maybe", "data.on_error"),
    ("pretrain data.train_path=ROOT/data rela=nope", "nope"),
    ("pretrain data.train_path=ROOT/data rela=cf10,random", "rela"),
    ("pretrain data.train_path=ROOT/data rela=cf10 rela.head=thawed", "rela.head"),
    ("pretrain data.train_path=ROOT/data rela=cf10 rela.handover=2", "rela.handover"),
    ("pretrain data.train_path=ROOT/data rela=cf10 +rela.data_ration=0.5", "rela.data_ratio"),
    ("pretrain data.train_path=ROOT/data rela=cf10 rela.embeddings=ROOT/nothing", "rela.embeddings"),
    ("pretrain data.train_path=ROOT/data rela=cf10 rela.transport=ROOT/nothing", "rela.transport"),
    ("pretrain data.train_path=ROOT/data rela=cf10 'rela.augmentations=[{color_jiter: 1}]'", "color_jiter"),
    ("pretrain data.train_path=ROOT/data -m seed=1,2", "seed"),
    ("pretrain x[=3", "x[=3"),
    ("pretrain =", "'='"),
]  # fmt: skip


def _image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


ENTRY = (
    "id: {id}\ntitle: \"{title}\"\nsource: random\narchitecture: {architecture}\nlicence: not-applicable\n"
    "dim: 64\nmodel_args: {args}\n"
    "preprocessing: {{input_size: 32, resize: 32, interpolation: bilinear, mean: 0.5, std: 0.5}}\n"
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are right, and files that are not."""
    from rela_zoo import embed, fit_transport

    made = tmp_path_factory.mktemp("inputs")
    for number in range(8):
        _image(made / "data" / "ab"[number % 2] / f"{number}.png", number)
        _image(made / "data2" / f"{number}.png", 100 + number)
        _image(made / "broken" / f"{number}.png", number)
    (made / "broken" / "b.png").write_bytes(b"no picture")
    (made / "no-images").mkdir()
    (made / "empty").touch()
    np.save(made / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (made / "garbage.safetensors").write_bytes(b"\xff" * 100)
    (made / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    (made / "cut.parquet").write_bytes(b"PAR1" + b"\0" * 20)
    for folder, name in (("bad-index", "index.json"), ("bad-subsets", "subsets.json")):
        (made / folder).mkdir()
        (made / folder / name).write_text("[{]")
    (made / "conf").mkdir()
    for folder in (made, made / "conf"):
        (folder / "list.yaml").write_text("- 1\n")
        (folder / "unclosed.yaml").write_text("a: [\n")
    (made / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    facts: list[dict[str, str]] = [
        {"id": "escape", "title": r"\e[31mred", "architecture": "resnet18", "args": "{}"},
        {"id": "deep", "title": "Deep", "architecture": "vit_tiny_patch16_224", "args": "{depth: 300000}"},
        {"id": "badargs", "title": "Bad", "architecture": "resnet18", "args": "{no_such_argument: 1}"},
    ]
    for one in facts:
        (made / f"{one['id']}.yaml").write_text(ENTRY.format(**one))
    table = embed("cifar10-resnet20", made / "data", made / "e", progress=False)
    fit_transport(table, progress=False).save(made / "t.safetensors")
    with pytest.raises(SystemExit) as done:
        app(shlex.split(f"subset export {made / 'data'} --out {made / 's'} --epochs 2 --data-ratio 0.5"))
    assert done.value.code == 0
    return made


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line in this process; returns exit code and what it said on stderr."""
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("RELA_ZOO_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(line: str, before: tuple[str, ...] = ()) -> tuple[object, str]:
        arguments = [*before, *shlex.split(line.replace("ROOT", str(root)))]
        monkeypatch.setattr("sys.argv", ["rela-zoo", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capfd.readouterr().err

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("line", "named"), CASES, ids=[line for line, _ in CASES])
def test_a_message_and_no_traceback(run: Any, root: Path, line: str, named: str) -> None:
    code, said = run(line)
    assert code == 2, said
    assert "Traceback" not in said
    assert "not expected" not in said
    assert "\x1b[31mred" not in said
    lines = [one for one in said.splitlines() if one.strip() and "Warning" not in one]
    assert 1 <= len(lines) < 15, said
    assert named in said.replace(str(root), "") or named in said, said


def test_the_traceback_is_shown_where_it_is_asked_for(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run("show nope", before=("--debug",))
    assert code == 2
    assert "Traceback" in said
    assert "error: no prior is named 'nope'" in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device", "/x/y"), 2, "No space left on device: /x/y"),
        (PermissionError(13, "Permission denied", "/x"), 2, "a place that you may write to"),
        (OSError(24, "Too many open files"), 2, "ulimit -n"),
        (KeyError("momentum"), 1, "KeyError: 'momentum'"),
        (OSError("odd"), 1, "this was not expected"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ValueError("\x1b[31m" + "long " * 500 + "\nline" * 50), 1, "more lines"),
    ],
)
def test_whatever_else_is_raised(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELA_ZOO_DEBUG", raising=False)

    def program() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        guarded(program)
    assert ended.value.code == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert "\x1b[31mlong" not in told
    assert len(told.splitlines()) < 15


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_signs_that_a_stream_has_not_are_replaced(encoding: str) -> None:
    import os
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONIOENCODING": encoding, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rela_zoo", "doctor"], env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1)  # whether solo-learn is here, or not
    assert b"UnicodeEncodeError" not in done.stderr
    assert b"plugin" in done.stdout


def test_no_password_is_shown() -> None:
    from rela_zoo._io.text import without_password

    assert without_password("https://me:pass@host/x") == "https://***@host/x"
    assert without_password("https://host/a@b") == "https://host/a@b"
