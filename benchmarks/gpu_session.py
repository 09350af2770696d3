"""Measure on a GPU what docs/performance.md lacks, in one call of a few minutes.

    python benchmarks/gpu_session.py OUT --minutes 9

The most important steps come first. Each writes its own JSON file into OUT as soon as
it is done; a step that fails or that no time is left for is named in summary.json, and
the others go on. PyTorch is left out where it is not installed.
"""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from edvr_jax.commands import output
from edvr_jax.errors import INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent
EDVR = (sys.executable, "-m", "edvr_jax.cli")
AGAINST_TORCH = (sys.executable, str(ROOT / "benchmarks" / "against_torch.py"))
HAS_TORCH = "import sys, torch; sys.exit(not (sys.argv[1] == 'cpu' or \
torch.cuda.is_available()))"


@dataclasses.dataclass(frozen=True)
class GpuSession:
    """Measure everything on one GPU.

    Attributes:
        out: Folder for the results.
        minutes: Time for all steps.
        device: Where to run; cpu only to try the program.
        torch_python: Python that has torch.
        tiny: Shrink every step, to try the program.
    """

    out: Annotated[Path, tyro.conf.Positional]
    minutes: float = 9.0
    device: Literal["gpu", "cpu"] = "gpu"
    torch_python: Path = Path(sys.executable)
    tiny: bool = False

    def run(self) -> int:
        """Run the steps; the exit code is 1 if one of them failed."""
        self.out.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + 60 * self.minutes
        summary = []
        for name, command in self._steps():
            began = time.monotonic()
            result = self._run_step(name, command, deadline - began)
            seconds = round(time.monotonic() - began, 1)
            summary.append({"step": name, "result": result, "seconds": seconds})
            sys.stdout.write(f"{name}: {result}, {seconds:.0f} s\n")
            sys.stdout.flush()
            output.write_json(self.out / "summary.json", {"steps": summary})
        return int(any(step["result"].startswith("failed") for step in summary))

    def _steps(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the name and the command of each step."""
        yield "selftest", (*EDVR, "selftest")
        cases = ("--cases", "deform_conv", "--repeats", "1") if self.tiny else ()
        for dtype in ("bfloat16", "float32"):
            path = str(self.out / f"bench_{dtype}.json")
            yield (
                f"bench_{dtype}",
                (
                    *(*EDVR, "bench", "--dtype", dtype, "--json", path),
                    *cases,
                ),
            )
        check = [str(self.torch_python), "-c", HAS_TORCH, self.device]
        if subprocess.run(check, check=False, stderr=subprocess.DEVNULL).returncode:
            return
        names = ("window_m", "train_step_m", "deform_conv_gradient", "stream_m")
        for name in names[:1] if self.tiny else names:
            yield (
                f"against_torch_{name}",
                (
                    *(*AGAINST_TORCH, "--device", self.device, "--cases", name),
                    *("--torch-python", str(self.torch_python)),
                    *("--json", str(self.out / f"against_torch_{name}.json")),
                    *(("--tiny", "--repeats", "1") if self.tiny else ()),
                ),
            )

    def _run_step(self, name: str, command: tuple[str, ...], seconds: float) -> str:
        """Run a step.

        Returns:
            "done", "no time", or "failed" with the last line that it wrote.
        """
        if seconds <= 0:
            return "no time"
        sys.stdout.write(f"{name}: {' '.join(command)}\n")
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                # Without a GPU a step fails instead of measuring the CPU.
                env=os.environ
                | {"JAX_PLATFORMS": "cpu" if self.device == "cpu" else "cuda"},
                timeout=seconds,
                check=False,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return "no time"
        sys.stdout.write(done.stdout)
        if done.returncode == 0:
            return "done"
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return f"failed: {lines[-1]}"


def main() -> int:
    """Read the command line and run."""
    try:
        return tyro.cli(GpuSession).run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
