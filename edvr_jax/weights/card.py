"""The model card of a weights file: README.md with a YAML head, as the Hub reads it."""

import dataclasses
import json
from typing import Any

from edvr_jax.config import CascadeConfig, NetworkConfig
from edvr_jax.models import params as params_lib
from edvr_jax.weights import hub

NAME = "README.md"
NOT_STATED = "not stated"
# The Hub's identifiers; anything else is "other", with the text in the card.
_LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "unlicense"),
    *("gpl-3.0", "lgpl-3.0", "agpl-3.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)

_BODY = """\
# {title}

{task} by EDVR ([arXiv:1905.02716](https://arxiv.org/abs/1905.02716)), {count:,}
parameters, for edvr_jax (JAX and Flax).

```sh
pip install 'edvr-jax[hub]'
edvr restore in.mp4 out.mp4 --weights hf://ORG/NAME{place}
```

```python
import edvr_jax

config, params = edvr_jax.load_weights("hf://ORG/NAME{place}")
```

| | |
|---|---|
| origin | {origin} |
| license | {license} |

```json
{config}
```

```bibtex
@inproceedings{{wang2019edvr,
  author    = {{Wang, Xintao and Chan, Kelvin C. K. and Yu, Ke and Dong, Chao and
               Loy, Chen Change}},
  title     = {{{{EDVR}}: Video Restoration with Enhanced Deformable Convolutional
               Networks}},
  booktitle = {{CVPR Workshops}},
  year      = {{2019}}
}}
```
"""


def write_card(
    config: NetworkConfig,
    *,
    file: str,
    origin: str = "",
    license: str = "",
    dataset: str = "",
) -> str:
    """Return the text of a model card.

    Args:
        config: The network.
        file: Name of the weights file in the repository.
        origin: Who trained the weights, on what.
        license: Their terms; an SPDX identifier up to the first semicolon is the
            license of the head.
        dataset: Name of the dataset that they were trained on; "" if unknown.
    """
    place = "" if file == hub.DEFAULT_FILE else f"/{file}"
    scale = config.output_scale
    body = _BODY.format(
        title=file.partition(".")[0] if place else "EDVR",
        task=f"Video super-resolution x{scale}" if scale > 1 else "Video restoration",
        count=params_lib.count(config),
        place=place,
        origin=_cell(origin),
        license=_cell(license),
        config=json.dumps(dataclasses.asdict(config), indent=2),
    )
    head = _head(config, license, dataset)
    # JSON is YAML in flow style.
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---", "", body])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split()) or NOT_STATED


def _head(config: NetworkConfig, license: str, dataset: str) -> dict[str, Any]:
    tags = ["edvr", "jax", "flax", "video-restoration"]
    if config.output_scale > 1:
        tags.append("video-super-resolution")
    if isinstance(config, CascadeConfig):
        tags.append("cascade")
    head: dict[str, Any] = {
        "library_name": "edvr_jax",
        "pipeline_tag": "video-to-video",
        "tags": tags,
        "metrics": ["psnr", "ssim"],
    }
    if license not in ("", NOT_STATED):
        spdx = license.partition(";")[0].strip().lower()
        head["license"] = spdx if spdx in _LICENSES else "other"
    if dataset:
        head["datasets"] = [dataset]
    return head
