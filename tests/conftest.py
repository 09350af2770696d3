"""Every test runs on four fake CPU devices, unless EDVR_TEST_PLATFORM says else.

The environment is set before JAX is imported: later is too late.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = os.environ.get("EDVR_TEST_PLATFORM", "cpu")
os.environ["JAX_PLATFORMS"] = PLATFORM
if PLATFORM == "cpu":
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    )
# By the environment, so that commands and subprocesses share the cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Folder of the stored reference outputs."""
    return ROOT / "tests" / "fixtures"


def pytest_collection_modifyitems(items):
    """Skip, with a reason, the tests whose device is not there."""
    for marker, platforms in (("gpu", ("cuda", "gpu", "rocm")), ("tpu", ("tpu",))):
        if PLATFORM in platforms:
            continue
        skip = pytest.mark.skip(
            reason=f"needs a {marker.upper()}: set EDVR_TEST_PLATFORM={platforms[0]}"
        )
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)
