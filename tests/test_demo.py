"""The demo's table, picture and video, with a network that has learned nothing."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from edvr_jax import weights
from edvr_jax.config import ModelConfig
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.models import create_model
from tools import demo


def test_demo_measures_and_writes(tmp_path, capsys):
    config = ModelConfig(8, 1, 1, 0, 0, with_tsa=False)
    frames = jnp.zeros((1, 1, 16, 16, 3))
    shapes = jax.eval_shape(create_model(config).init, jax.random.key(0), frames)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"])
    path = tmp_path / "bilinear.safetensors"
    weights.save_weights(path, config, params, origin="", license="")
    output = tmp_path / "out"
    # All weights zero leave the bilinear base image, which is worse than bicubic.
    assert demo.main(["--weights", str(path), "--output", str(output)]) == 1
    lines = capsys.readouterr().out.splitlines()
    scores = {
        line.split()[0]: [float(x) for x in line.split()[1:]] for line in lines[1:4]
    }
    # Bicubic's row depends on the bundled frames alone.
    assert scores["bicubic"] == [29.54, 0.8904, 28.18, 0.8793]
    assert scores["gain"][0] < -0.3
    clip = open_clip(output / "hawk_rain_edvr.mp4")
    assert (clip.size, clip.fps, len(list(clip))) == ((268, 480), 25, 10)
    assert cv2.imread(str(output / "comparison.png")).shape == (392, 1920, 3)
