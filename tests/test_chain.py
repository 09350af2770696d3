"""A chain of runs: checked before it starts; each improves on the one before."""

import dataclasses
import signal

import pytest

from edvr_jax import chain, load_weights
from edvr_jax.commands import train as train_command
from edvr_jax.config import CascadeConfig, Config, Phase
from edvr_jax.errors import InputError
from edvr_jax.trainer import Place
from tests.training import ROOT


@pytest.fixture
def trained(monkeypatch):
    """List the runs instead of making them."""
    runs = []
    monkeypatch.setattr(
        chain.trainer,
        "train",
        lambda config, place, *, log: runs.append((place.workdir.name, place.init)),
    )
    return runs


def train(phases, tmp_path, **place):
    place = Place(data=tmp_path, workdir=tmp_path / "run", **place)
    chain.train_chain(phases, place, log=lambda line: None)


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
    ("phases", "place", "message"),
    [
        ((Phase("a", Config()), Phase("a", Config())), {}, "each once"),
        ((Phase("../a", Config()),), {}, "identifiers"),
        (
            (Phase("a", Config(), init=("stage1=b",)), Phase("b", Config())),
            {},
            "starts from b, a later one",
        ),
        ((Phase("a", Config()),), {"init": ("edvr_s_x4",)}, "--init does not go"),
    ],
)
def test_chains_that_cannot_run_do_not_start(trained, tmp_path, phases, place, message):
    with pytest.raises(InputError, match=message):
        train(phases, tmp_path, **place)
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
            val_clips=("hawk_rain_540p",),
            gt_downscale=2,
            max_frames_per_clip=12,
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
        Phase("pretrain", experiment(PRETRAIN, steps=150)),
        Phase("wotsa", experiment(WOTSA, steps=300), init=("predeblur=pretrain",)),
        Phase("deeper", experiment(deep, steps=200, grow_depth=True), init=("wotsa",)),
        Phase(
            "tsa",
            experiment(tsa, steps=300, fresh=("fusion",), warmup=50),
            init=("deeper",),
        ),
        Phase(
            "stage2",
            experiment(stage2, steps=200, frozen=("stage1",)),
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
    import tyro

    command = tyro.cli(train_command.with_config_file(arguments), args=arguments[1:])
    return command._phases()


def test_settings_apply_to_all_phases(chain_file):
    phases = phases_of(chain_file, "--data.batch-size", "2", "--guard.patience", "7")
    assert [phase.name for phase in phases][::4] == ["pretrain", "stage2"]
    for phase in phases:
        assert phase.config.data.batch_size == 2
        assert phase.config.data.gt_crop == 64
        assert phase.config.guard.patience == 7
    assert [phase.config.total_steps for phase in phases] == [150, 300, 200, 300, 200]
    assert isinstance(phases[-1].config.model, CascadeConfig)
    with pytest.raises(InputError, match="stage1 cannot be set for all phases"):
        phases_of(chain_file, "--model.stage1.num-frames", "5")


def test_every_recipe_is_a_chain_that_fits():
    """Phases start from what is there, and allow what must start fresh."""
    from edvr_jax.models import params as params_lib

    num_chains = 0
    for path in sorted((ROOT / "configs").glob("*.py")):
        if "get_chain" not in path.read_text("utf-8"):
            continue
        num_chains += 1
        done = {}
        for phase in phases_of(path):
            for entry in phase.init:
                subtree, _, source = entry.rpartition("=")
                assert source in done, (path.stem, phase.name)
                if not subtree:
                    expected = params_lib.shapes(phase.config.model)
                    found = params_lib.shapes(done[source].model)
                    fresh, grows = phase.config.init.fresh, phase.config.init.grow_depth
                    for key, shape in expected.items():
                        if key.split("/")[0] in fresh:
                            continue
                        if key not in found:
                            assert grows, (path.stem, phase.name, key)
                            assert key.startswith("reconstruction_")
                        else:
                            assert found[key] == shape
            done[phase.name] = phase.config
        assert phases_of(path)[-1].config == train_command.load_config(path)
    assert num_chains >= 12


@pytest.mark.slow
def test_every_phase_of_a_chain_improves(chain_file, tmp_path):
    """Killed once on the way; evaluated with the command of the tables."""
    import subprocess
    import sys

    from tests.training import read_log, wait_until

    clips = tmp_path / "clips"
    clips.mkdir()
    demo = ROOT / "tests" / "fixtures"
    del demo
    source = ROOT.parent / "shared" / "data" / "clips"
    if not source.is_dir():
        pytest.skip("needs real clips beside the repository")
    names = ("hawk_rain_540p", "bee_thistle_720p", "dog_walk_720p", "coffee_pour_720p")
    for name in names:
        (path,) = source.rglob(f"{name}.*")
        (clips / path.name).symlink_to(path)
    workdir = tmp_path / "run"
    options = {"config": chain_file, "data": clips, "workdir": workdir}
    command = [sys.executable, "train.py", "--chain"]
    command += [f"--{key}={value}" for key, value in options.items()]
    process = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: len(read_log(workdir / "deeper")) >= 7, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    scores = {}
    for phase in phases_of(chain_file):
        record = [r for r in read_log(workdir / phase.name) if "psnr_y" in r][-1]
        scores[phase.name] = record["psnr_y"]
    values = list(scores.values())
    assert values == sorted(values), scores
    config, _ = load_weights(workdir / "stage2" / "ema.safetensors")
    assert isinstance(config, CascadeConfig)
    assert dataclasses.is_dataclass(config)
