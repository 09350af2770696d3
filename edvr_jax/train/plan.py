"""What happens after each step of a run."""

import dataclasses

from edvr_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Plan:
    """What happens after a step, however often the run is stopped.

    Attributes:
        log: Report the metrics, and act on bad steps.
        save: Write a checkpoint.
        validate: Validate, and report the scores.
    """

    log: bool
    save: bool
    validate: bool


def plan(step: int, config: Config) -> Plan:
    """Return what happens once ``step`` steps have been made."""
    validate = step == config.total_steps or step % config.eval.every_steps == 0
    save = validate or step % config.checkpoint_every_steps == 0
    return Plan(save or step % config.log_every_steps == 0, save, validate)
