"""The training loop: step, guard, checkpoint, validation."""

import dataclasses
from collections.abc import Callable

import numpy as np

from edvr_jax.config import Config
from edvr_jax.data.loader import TrainLoader
from edvr_jax.errors import Stopped
from edvr_jax.train import optim, parallel, workdir
from edvr_jax.train.checkpoint import Checkpoints
from edvr_jax.train.parts import Parts
from edvr_jax.train.plan import plan
from edvr_jax.train.profiling import Profile
from edvr_jax.train.reporter import Reporter
from edvr_jax.train.signals import StopRequest
from edvr_jax.train.state import TrainState
from edvr_jax.train.validation import Validate


@dataclasses.dataclass(frozen=True)
class Loop:
    """Trains from any step to the last one.

    What happens follows from the state and the configuration, except for a stop.

    Attributes:
        config: The experiment.
        loader: Batches.
        checkpoints: Saves the states.
        restore: Returns the state of the newest checkpoint, or of step 0, and sets
            ``loader`` to its place in the data.
        validate: Function from parameters to scores.
        reporter: Reports metrics, scores and events.
        parts: The user's own model and loss.
    """

    config: Config
    loader: TrainLoader
    checkpoints: Checkpoints
    restore: Callable[[], TrainState]
    validate: Validate
    reporter: Reporter
    parts: Parts

    def run(
        self, state: TrainState, *, profile: Profile, stop: StopRequest
    ) -> TrainState:
        """Train to the last step.

        Args:
            state: State to start from; ``loader`` is at its place in the data.
            profile: Trace of some steps.
            stop: Whether to stop after a step.

        Returns:
            The final state.

        Raises:
            Stopped: as ``stop`` requests, after a checkpoint has been saved.
            FloatingPointError: if training cannot continue.
        """
        config, step = self.config, int(state.step)
        if step and plan(step, config).validate and step not in self.checkpoints.scores:
            self._validate(state)  # the run was stopped during this validation
        train_step = parallel.ParallelTrainStep(
            model=self.parts.network(config),
            optimizer=optim.create_optimizer(config.optim),
            config=config.optim,
            guard=config.guard,
            loss=self.parts.loss,
        )
        while step < config.total_steps:
            profile.before(step)
            state, metrics = train_step(state, parallel.shard(next(self.loader)))
            step += 1
            self.reporter.add(metrics)
            due = plan(step, config)
            if due.log:
                self.checkpoints.check()
                # Before saving: raises on a loss that is not finite, without a guard.
                self.reporter.report_train(step)
                if int(state.bad_steps) >= config.guard.patience:
                    state = self._roll_back(state)
                    step = int(state.step)
                    continue
            stop_code = stop.stop_code(step)
            is_last = step == config.total_steps
            # Never inside a run of bad steps: the checkpoint before it is the one to
            # return to. Reading the count waits for the step, so it comes last.
            if (due.save or stop_code) and (is_last or not int(state.bad_steps)):
                self.checkpoints.save(state, self.loader.get_state())
            if stop_code and not is_last:
                self._stop(step, stop_code)
            if due.validate:
                self._validate(state)
        return state

    def _validate(self, state: TrainState) -> None:
        step = int(state.step)
        validated = self.validate(parallel.local(state.ema_params))
        self.reporter.report_validation(step, validated)
        if validated.score is not None:
            self.checkpoints.set_score(step, validated.score)

    def _stop(self, step: int, code: int) -> None:
        self.reporter.report_train(step)
        self.reporter.log(
            f"stopped at step {step}, saved up to {self.checkpoints.latest_step or 0}; "
            "run the same command, without --overwrite, to continue"
        )
        raise Stopped(code)

    def _roll_back(self, state: TrainState) -> TrainState:
        """Return to a planned checkpoint, with a lower rate of offset convolutions."""
        guard, step, count = (
            self.config.guard,
            int(state.step),
            int(state.rollbacks) + 1,
        )
        if count > guard.max_rollbacks:
            raise FloatingPointError(
                f"training failed again near step {step}, after "
                f"{guard.max_rollbacks} rollbacks (guard.max_rollbacks); look at "
                f"offset_mean and grad_norm in {workdir.LOG}, and lower optim.peak_lr "
                "or optim.offset_lr_multiplier, or set model.max_offset"
            )
        self.checkpoints.delete_unplanned()
        state = self.restore().replace(rollbacks=np.int32(count))
        self.reporter.rewind(int(state.step))
        self.reporter.event(
            step,
            f"{guard.patience} bad steps in a row: back to step {int(state.step)}, "
            f"rate of the offset convolutions times {guard.lr_factor**count:.3g} "
            f"({count} of {guard.max_rollbacks} rollbacks)",
        )
        return state
