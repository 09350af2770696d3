"""Train the networks that ship, one after another, as long as there is time.

    python tools/train_family.py --data CLIPS --runs RUNS

Each network is an experiment of ``configs/``, trained phase by phase in RUNS/NAME. What
is there is continued and what is done is left alone, so the same command survives any
number of interruptions. Other work on the machine has precedence. The weights of a
network that is done are copied to RUNS/NAME.safetensors. The second stage of deblurring
trains on what the first one gives, RUNS/pairs.

With ``--budget-minutes`` all networks share that time: every phase of a network has as
many steps, by the rates that a short trial of its chain measures. On an accelerator it
trains in bfloat16 with larger batches.
"""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import tyro

from edvr_jax import cli
from edvr_jax.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
STAGE1, STAGE2 = "edvr_s_deblur", "edvr_s_deblur_stage2"
NETWORKS = ("edvr_s_x4", "edvr_s_x2_web", STAGE1, STAGE2)
TRIAL_STEPS = 60
ON_ACCELERATOR = (
    *("--model.dtype", "bfloat16"),
    *("--data.batch-size", "32"),
    *("--data.num-workers", "12"),
)


@dataclasses.dataclass(frozen=True)
class TrainFamily:
    """Train the networks that ship.

    Attributes:
        data: Folder of the clips, see configs/edvr_s_x4.py.
        runs: Folder of the runs and of the decoded frames.
        only: Names of the networks to train; none trains all.
        budget_minutes: Share so many minutes among the networks; None trains each one
            to the end of its schedule.
        settings: Further options of train.py: --settings="--data.batch-size 8".
    """

    data: Path
    runs: Path
    only: tuple[str, ...] = NETWORKS
    budget_minutes: float | None = None
    settings: str = ""

    def run(self) -> int:
        """Train; return the exit code of the first run that did not end."""
        is_accelerated = jax.default_backend() != "cpu"
        options = (
            *(ON_ACCELERATOR if is_accelerated else ()),
            *shlex.split(self.settings),
        )
        for name in self.only:
            chosen = options
            if name == STAGE2 and (code := self._make_pairs()):
                return code
            if self.budget_minutes is not None:
                seconds = 60 * self.budget_minutes / len(self.only)
                chosen += self._schedule(name, options, seconds)
            code = self._train(name, self.runs / name, chosen)
            if code:
                return code
            self._publish(name)
        return 0

    def _make_pairs(self) -> int:
        """Deblur the clips by the first stage, for the second one.

        Returns:
            The exit code.
        """
        first = self.runs / f"{STAGE1}.safetensors"
        if not first.exists():
            raise InputError(f"there is no {first}: train {STAGE1} first")
        command = (
            *(sys.executable, "-m", "tools.make_stage2_pairs"),
            *("--clips", str(self.data.absolute())),
            *("--pairs", str((self.runs / "pairs").absolute())),
            *("--weights", str(first.absolute())),
        )
        return subprocess.run(command, cwd=ROOT, check=False).returncode

    def _train(self, name: str, workdir: Path, options: Sequence[str]) -> int:
        """Run train.py in the background; it gets the signals that this process gets.

        Returns:
            Its exit code.
        """
        data, chain = self.data, ("--chain",)
        if name == STAGE2:
            data, chain = self.runs / "pairs", ()
        environment = dict(os.environ)
        if jax.default_backend() == "cpu":
            count = f"--xla_force_host_platform_device_count={os.cpu_count()}"
            flags = environment.get("XLA_FLAGS", "")
            environment["XLA_FLAGS"] = f"{flags} {count}".strip()
        process = subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "train.py")),
                *("--config", str(ROOT / "configs" / f"{name}.py")),
                *("--data", str(data), "--workdir", str(workdir)),
                *("--cache", str(self.runs / "frames"), *chain, *options),
            ],
            env=environment,
            start_new_session=True,  # a group of the scheduler, and no Ctrl-C twice
        )
        give_processor_away(process.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, _: process.send_signal(number))
        return process.wait()

    def _schedule(
        self, name: str, options: Sequence[str], seconds: float
    ) -> tuple[str, ...]:
        """Return the options that make the chain of a network take so long."""
        trial = self.runs / f"{name}_trial"
        shutil.rmtree(trial, ignore_errors=True)
        began = time.monotonic()
        short = ("--total-steps", str(TRIAL_STEPS), "--log-every-steps", "20")
        if self._train(name, trial, (*short, *options)):
            raise SystemExit(f"error: the trial of {name} failed, see above")
        step_seconds = sum(map(_seconds_per_step, trial.glob("**/log.jsonl")))
        seconds -= time.monotonic() - began
        num_steps = max(TRIAL_STEPS, int(seconds / step_seconds))
        return (
            *("--total-steps", str(num_steps), "--optim.period-steps", str(num_steps)),
            *("--optim.restart-weights", "1"),
        )

    def _publish(self, name: str) -> None:
        """Copy the weights of the last phase beside the runs."""
        phases = (self.runs / name).glob("**/ema.safetensors")
        newest = max(phases, key=lambda path: path.stat().st_mtime)
        shutil.copy(newest, self.runs / f"{name}.safetensors")


def _seconds_per_step(log: Path) -> float:
    """Return the duration of a step at the end of a phase."""
    records = map(json.loads, log.read_text().splitlines())
    rate = [r["windows_per_s"] for r in records if "windows_per_s" in r][-1]
    config = json.loads((log.parent / "config.json").read_text())
    return config["data"]["batch_size"] / rate


def give_processor_away(pid: int) -> None:
    """Let a process run only when nothing else wants to."""
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists():  # between sessions, a priority alone does nothing there
        autogroup.write_text("15")


if __name__ == "__main__":
    sys.exit(cli.run(lambda: tyro.cli(TrainFamily).run()))
