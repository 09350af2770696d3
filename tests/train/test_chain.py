"""A chain of runs: checked before it starts; each improves on the one before."""

import json
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tyro

from edvr_jax import cli, load_weights, weights
from edvr_jax.commands import train as train_command
from edvr_jax.config import CascadeConfig, Config, Phase
from edvr_jax.models import params as params_lib
from edvr_jax.train import chain, warm_start, workdir
from edvr_jax.weights.native import Stored
from tests.messages import check_message, refused
from tests.training import ROOT, read_log, wait_until

DEMO = ROOT / "demo" / "hawk_rain"


@pytest.fixture
def trained(monkeypatch):
    """List the runs instead of making them."""
    runs = []
    monkeypatch.setattr(
        chain.trainer,
        "train",
        lambda config, *, workdir, init, **_: runs.append((workdir.name, init)),
    )
    return runs


def test_a_finished_phase_is_left_alone(trained, tmp_path):
    phases = (Phase("wotsa", Config()), Phase("tsa", Config(), init=("wotsa",)))
    workdir.prepare_workdir(tmp_path / "run" / "wotsa", Config(), is_continued=False)
    (tmp_path / "run" / "wotsa" / "ema.safetensors").touch()
    train(phases, tmp_path)
    assert [name for name, _ in trained] == ["tsa"]
    train((Phase("wotsa", Config(seed=1)),), tmp_path)  # another experiment
    assert [name for name, _ in trained] == ["tsa", "wotsa"]


def test_paths_may_hold_equals_signs(trained, tmp_path):
    phases = (Phase("a", Config()), Phase("b", Config(), init=("stage1=a", "a")))
    root = tmp_path / "lr=1e-4"
    weights = root / "run" / "a" / "ema.safetensors"
    train(phases, root)
    assert trained[1] == ("b", (f"stage1={weights}", str(weights)))
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert warm_start.parse_source(trained[1][1][0]) == ("stage1", str(weights))
    assert warm_start.parse_source(trained[1][1][1]) == ("", str(weights))


def train(phases, tmp_path):
    workdir = tmp_path / "run"
    chain.train_chain(phases, data=tmp_path, workdir=workdir, log=lambda line: None)


def test_names_of_phases_stand_for_their_weights(trained, tmp_path):
    phases = (
        Phase("pretrain", Config()),
        Phase("wotsa", Config(), init=("predeblur=pretrain",)),
        Phase("tsa", Config(), init=("wotsa", "fusion=edvr_s_x4")),
    )
    train(phases, tmp_path)
    root = tmp_path / "run"
    assert trained == [
        ("pretrain", ()),
        ("wotsa", (f"predeblur={root / 'pretrain' / 'ema.safetensors'}",)),
        ("tsa", (str(root / "wotsa" / "ema.safetensors"), "fusion=edvr_s_x4")),
    ]


@pytest.mark.parametrize(
    ("phases", "facts"),
    [
        ((Phase("a", Config()), Phase("a", Config())), ["'a'", "once"]),
        ((Phase("../a", Config()),), ["'../a'", "identifiers"]),
        (
            (Phase("a", Config(), init=("stage1=b",)), Phase("b", Config())),
            ["phase a", "from b", "later"],
        ),
    ],
)
def test_chains_that_cannot_run_do_not_start(trained, tmp_path, phases, facts):
    with refused(*facts):
        train(phases, tmp_path)
    assert trained == []


def test_phases_name_their_own_weights(trained, chain_file, tmp_path, capsys):
    places = {"config": chain_file, "data": tmp_path, "workdir": tmp_path / "run"}
    arguments = [f"--{name}={path}" for name, path in places.items()]
    assert cli.main(["train", "--chain", *arguments, "--init", "edvr_s_x4"]) == 2
    check_message(capsys.readouterr().err, "--init", "--chain")
    assert trained == []


CHAIN = '''
"""A chain of tiny networks on real clips: the names of the full recipe."""

import dataclasses

from edvr_jax.config import (
    CascadeConfig,
    Config,
    DataConfig,
    EvalConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Phase,
)

WOTSA = ModelConfig(
    num_features=16,
    num_frames=3,
    deformable_groups=2,
    num_extract_blocks=1,
    num_reconstruct_blocks=2,
    with_predeblur=True,
    with_tsa=False,
)
PRETRAIN = dataclasses.replace(
    WOTSA,
    num_frames=1,
    with_alignment=False,
    num_extract_blocks=0,
    num_reconstruct_blocks=0,
)
TSA = dataclasses.replace(WOTSA, with_tsa=True)
STAGE2 = CascadeConfig(
    stage1=TSA,
    stage2=dataclasses.replace(TSA, scale=1, hr_in=True, with_predeblur=False),
)


def experiment(model, *, steps, fresh=(), grow_depth=False, warmup=0, frozen=()):
    return Config(
        model=model,
        data=DataConfig(
            dataset="folder_of_clips",
            val_clips=("val",),
            gt_crop=64,
            batch_size=4,
        ),
        optim=OptimConfig(
            peak_lr=1e-3,
            period_steps=(steps,),
            restart_weights=(1.0,),
            ema_decay=0.95,
            tsa_warmup_steps=warmup,
            frozen=frozen,
        ),
        init=InitConfig(fresh=fresh, grow_depth=grow_depth),
        eval=EvalConfig(every_steps=steps, frames_per_clip=4),
        total_steps=steps,
        log_every_steps=20,
        checkpoint_every_steps=100,
    )


def get_chain():
    deep = dataclasses.replace(WOTSA, num_reconstruct_blocks=4)
    tsa = dataclasses.replace(deep, with_tsa=True)
    stage2 = dataclasses.replace(STAGE2, stage1=tsa)
    return (
        Phase("pretrain", experiment(PRETRAIN, steps=60)),
        Phase("wotsa", experiment(WOTSA, steps=400), init=("predeblur=pretrain",)),
        Phase("deeper", experiment(deep, steps=200, grow_depth=True), init=("wotsa",)),
        Phase(
            "tsa",
            experiment(tsa, steps=300, fresh=("fusion",), warmup=50),
            init=("deeper",),
        ),
        Phase(
            "stage2",
            experiment(stage2, steps=500, frozen=("stage1",)),
            init=("stage1=tsa",),
        ),
    )


def get_config():
    return get_chain()[-1].config
'''


@pytest.fixture
def chain_file(tmp_path):
    path = tmp_path / "chain.py"
    path.write_text(CHAIN)
    return path


def phases_of(path, *options):
    """Phases as the command sees them."""
    arguments = ["train", "--config", str(path), "--chain", *options]
    command = tyro.cli(train_command.with_config_file(arguments), args=arguments[1:])
    return command.read_phases()


def test_settings_apply_to_all_phases(chain_file):
    phases = phases_of(chain_file, "--data.batch-size", "2", "--guard.patience", "7")
    assert [phase.name for phase in phases][::4] == ["pretrain", "stage2"]
    for phase in phases:
        assert phase.config.data.batch_size == 2
        assert phase.config.data.gt_crop == 64
        assert phase.config.guard.patience == 7
    assert [phase.config.total_steps for phase in phases] == [60, 400, 200, 300, 500]
    assert isinstance(phases[-1].config.model, CascadeConfig)
    # Also where the last phase has this value already.
    assert phases[3].config.optim.tsa_warmup_steps == 50
    phases = phases_of(chain_file, "--optim.tsa-warmup-steps", "0")
    assert phases[3].config.optim.tsa_warmup_steps == 0
    with pytest.raises(SystemExit):
        phases_of(chain_file, "--model.stage1.num-frames", "5")


def test_every_recipe_is_a_chain_that_fits(monkeypatch):
    """Each phase takes what the earlier ones give it; nothing is missing or left."""
    done = {}
    names = weights.available_weights()
    shipped = {name: weights.load_weights(name)[0] for name in names}

    def zeros(config):
        shapes = params_lib.shapes(config)
        return params_lib.unflatten(
            {
                key: np.broadcast_to(np.float32(0), shape)
                for key, shape in shapes.items()
            }
        )

    monkeypatch.setattr(
        warm_start.weights,
        "read_stored",
        lambda name: Stored(done[name], params_lib.flatten(zeros(done[name]))),
    )
    monkeypatch.setattr(warm_start, "jnp", np)  # no memory
    num_chains = 0
    for path in sorted((ROOT / "configs").glob("*.py")):
        if "get_chain" not in path.read_text("utf-8"):
            continue
        num_chains += 1
        done = dict(shipped)
        phases = train_command.load_chain(path)
        for phase in phases:
            fresh = zeros(phase.config.model)
            warm_start.check_prefixes(params_lib.flatten(fresh), phase.config)
            warm_start.init_from_weights(fresh, phase.config, phase.init)
            done[phase.name] = phase.config.model
        assert phases[-1].config == train_command.load_config(path)
    assert num_chains >= 12


@pytest.fixture
def real_clips(tmp_path):
    """Pans over the bundled clip; the validation clip is beside the training clips."""
    frames = [cv2.imread(str(path)) for path in sorted(DEMO.glob("*.png"))]
    places = {
        "left": (118, 60),
        "right": (118, 200),
        "middle": (110, 130),
        "val": (0, 180),
    }
    for name, (top, left) in places.items():
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        for i, frame in enumerate(frames):
            y, x = top + 2 * i, left + i
            crop = np.ascontiguousarray(frame[y : y + 128, x : x + 128])
            cv2.imwrite(str(folder / f"{i}.png"), crop)
    return tmp_path / "clips"


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_users_do")
def test_every_phase_of_a_chain_improves(chain_file, real_clips, tmp_path):
    """One command, killed once on the way; its result goes through edvr eval."""
    workdir = tmp_path / "run"
    options = {"config": chain_file, "data": real_clips, "workdir": workdir}
    command = [sys.executable, "train.py", "--chain"]
    command += [f"--{key}={value}" for key, value in options.items()]
    process = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: len(read_log(workdir / "deeper")) >= 7, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    # All phases on the same frames, by the command of the tables.
    scores, path = {}, tmp_path / "scores.json"
    for phase in phases_of(chain_file):
        weights = workdir / phase.name / "ema.safetensors"
        options = {"gt": real_clips / "val", "weights": weights, "json": path}
        arguments = [f"--{key}={value}" for key, value in options.items()]
        assert cli.main(["eval", *arguments]) == 0
        mean = json.loads(path.read_text())["mean"]
        scores[phase.name] = mean["model"]["psnr_y"]
    assert list(scores.values()) == sorted(scores.values()), scores
    assert scores["stage2"] > mean["bicubic"]["psnr_y"], scores
    config, _ = load_weights(workdir / "stage2" / "ema.safetensors")
    assert isinstance(config, CascadeConfig)
