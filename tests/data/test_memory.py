"""Memory of the pipeline over a dataset of the size of REDS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

NUM_CLIPS, NUM_FRAMES = 200, 100
NUM_BATCHES = 40

# In a process of its own, which holds nothing else.
MEASURE = """
import json, multiprocessing, sys
from pathlib import Path
from edvr_jax.config import Config, DataConfig
from edvr_jax.data.clips import open_clips
from edvr_jax.data.loader import TrainLoader

def resident_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith("VmRSS")) / 1024

def main():
    root, num_workers, num_batches = Path(sys.argv[1]), *map(int, sys.argv[2:])
    config = Config(data=DataConfig(batch_size=4, num_workers=num_workers))
    clips, _ = open_clips(root, config, root.parent / "cache")
    used = []
    with TrainLoader(clips, config) as batches:
        for _ in range(num_batches):
            next(batches)
            pids = ["self", *(p.pid for p in multiprocessing.active_children())]
            used.append(sum(map(resident_mib, pids)))
    print(json.dumps(used))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Real frames, enlarged to 1280x720 and repeated by hard links."""
    folder = tmp_path_factory.mktemp("reds")
    demo = Path(__file__).parents[2] / "demo/hawk_rain"
    frames = []
    for path in sorted(demo.glob("*.png")):
        frame = cv2.resize(cv2.imread(str(path)), (1280, 720))
        frames.append(folder / path.name)
        cv2.imwrite(str(frames[-1]), frame)
    for clip in range(NUM_CLIPS):
        (folder / "clips" / f"{clip:03d}").mkdir(parents=True)
        for i in range(NUM_FRAMES):
            target = folder / "clips" / f"{clip:03d}" / f"{i:08d}.png"
            os.link(frames[(clip + i) % len(frames)], target)
    return folder / "clips"


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_memory_stays_flat_and_below_a_gigabyte(root, num_workers, tmp_path):
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    command = [sys.executable, script, root, str(num_workers), str(NUM_BATCHES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    used = json.loads(done.stdout)
    assert max(used) < 1024
    # The frame cache has been filled by the first half.
    half = len(used) // 2
    assert max(used[half:]) < 1.05 * max(used[:half])
