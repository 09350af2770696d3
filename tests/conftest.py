"""Every test runs on four fake CPU devices, unless EDVR_TEST_PLATFORM says else.

The environment is set before JAX is imported: later is too late.
"""

import dataclasses
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = os.environ.get("EDVR_TEST_PLATFORM", "cpu")
os.environ["JAX_PLATFORMS"] = PLATFORM
if PLATFORM == "cpu":
    # The convolutions that the commands choose, so that a run by a command has the
    # bits of one in the test's own process.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
        " --xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
        # Half the time of compilation.
        " --xla_cpu_use_fusion_emitters=false"
        # The workers of pytest share the cores already.
        " --xla_cpu_parallel_codegen_split_count=1"
    )
# Compile with few optimizations, in half the time; see the fixtures `optimized` and
# `compiled_as_users_do`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# By the environment, so that commands and subprocesses share the cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import cv2  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from edvr_jax.config import (  # noqa: E402
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
)
from edvr_jax.models import params as params_lib  # noqa: E402
from edvr_jax.train import parallel  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Folder of the stored reference outputs."""
    return ROOT / "tests" / "fixtures"


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Every part of the network, as small as it can be."""
    return ModelConfig(
        num_features=8,
        num_frames=3,
        deformable_groups=2,
        num_extract_blocks=1,
        num_reconstruct_blocks=1,
    )


@pytest.fixture(scope="session")
def random_params():
    """Function from a configuration to parameters with noise everywhere, float32.

    Unlike initial parameters, they take no compilation and make no offset zero.
    """

    def make(config, *, scale=1.0):
        rng = np.random.default_rng(0)
        noise = {
            key: rng.standard_normal(shape, np.float32) * np.float32(scale)
            for key, shape in params_lib.shapes(config).items()
        }
        return params_lib.unflatten(noise)

    return make


@pytest.fixture(scope="session")
def experiment(tiny_config) -> Config:
    """Six steps, with all phases: TSA alone up to step 2, a restart after step 4.

    Runs that share its optim share its compiled step.
    """
    return Config(
        model=tiny_config,
        data=DataConfig(
            val_clips=("val",), gt_crop=32, batch_size=4, camera_motion=0.5
        ),
        optim=OptimConfig(
            peak_lr=4e-3,
            period_steps=(4, 150),
            restart_weights=(1.0, 1.0),
            tsa_warmup_steps=2,
            offset_lr_multiplier=0.5,
            ema_decay=0.9,
        ),
        eval=EvalConfig(every_steps=3, frames_per_clip=2),
        total_steps=6,
        log_every_steps=1,
        checkpoint_every_steps=4,
    )


@pytest.fixture(scope="session")
def unaligned(experiment) -> Config:
    """The experiment without alignment, which takes most of the time to compile."""
    return dataclasses.replace(
        experiment,
        model=dataclasses.replace(
            experiment.model, num_frames=1, with_alignment=False, with_tsa=False
        ),
        optim=dataclasses.replace(experiment.optim, tsa_warmup_steps=0),
    )


@pytest.fixture(scope="session")
def clips(fixtures, tmp_path_factory) -> Path:
    """Clips that pan over a real frame; ``val`` shows the other frame."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][..., ::-1]
    for name, frame in (("train", frames[0]), ("val", frames[1])):
        (folder / name).mkdir()
        for i in range(6):
            crop = np.ascontiguousarray(frame[2 * i : 2 * i + 64, 3 * i : 3 * i + 96])
            cv2.imwrite(str(folder / name / f"{i}.png"), crop)
    return folder


@pytest.fixture(scope="session")
def first_moments():
    """Function from the state of an optimizer to Adam's first moments, by path."""

    def find(opt_state):
        found = {}
        for path, x in jax.tree_util.tree_leaves_with_path(opt_state):
            keys = [getattr(k, "key", getattr(k, "name", "")) for k in path]
            if "mu" in keys:
                found["/".join(keys[keys.index("mu") + 1 :])] = np.asarray(x)
        return found

    return find


@pytest.fixture(scope="module")
def shared_steps():
    """Runs of a module that make the same step share its compilation."""
    make, known = parallel.ParallelTrainStep, {}

    def make_once(*, model, optimizer, config, guard, loss=None):
        def step(state, batch):
            shapes = tuple((name, x.shape) for name, x in sorted(batch.items()))
            # What the loop alone asks does not matter to the step.
            same = dataclasses.replace(guard, patience=1, max_rollbacks=0)
            key = model, config, same, loss, shapes
            if key not in known:
                known[key] = make(
                    model=model,
                    optimizer=optimizer,
                    config=config,
                    guard=guard,
                    loss=loss,
                )
            return known[key](state, batch)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "ParallelTrainStep", make_once)
        yield


@pytest.fixture(scope="module")
def optimized():
    """Compile with all optimizations, for tests that check reference numbers."""
    default = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", default)
    jax.clear_caches()


@pytest.fixture
def compiled_as_users_do(monkeypatch):
    """Let the commands that a test starts compile as users' do, on one device.

    Not only with all optimizations: with them, what the flags above leave out makes
    XLA compile random numbers for minutes.
    """
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.setenv("XLA_FLAGS", "")


def pytest_collection_modifyitems(items):
    """Skip, with a reason, the tests whose device is not there."""
    for marker, platforms in (("gpu", ("cuda", "gpu", "rocm")), ("tpu", ("tpu",))):
        if PLATFORM in platforms:
            continue
        skip = pytest.mark.skip(
            reason=f"needs a {marker.upper()}: set EDVR_TEST_PLATFORM={platforms[0]}"
        )
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(skip)
