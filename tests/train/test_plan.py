"""What happens after each step, as a table."""

import pytest

from edvr_jax.config import Config, EvalConfig
from edvr_jax.train.plan import Plan, plan

CONFIG = Config(
    total_steps=50,
    log_every_steps=4,
    checkpoint_every_steps=6,
    eval=EvalConfig(every_steps=9),
)


@pytest.mark.parametrize(
    ("step", "done"),
    [
        (1, ""),
        (4, "log"),
        (6, "log save"),  # saved steps are logged,
        (9, "log save validate"),  # and validated ones saved
        (12, "log save"),
        (18, "log save validate"),
        (49, ""),
        (50, "log save validate"),  # the last step
    ],
)
def test_what_happens_after_a_step(step, done):
    expected = {name: name in done.split() for name in ("log", "save", "validate")}
    assert plan(step, CONFIG) == Plan(**expected)
