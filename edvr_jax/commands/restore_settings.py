"""Everything that the frames of ``edvr restore`` depend on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

import edvr_jax.export as export_lib
from edvr_jax.commands.paths import PIPE, fingerprint
from edvr_jax.media.read.pixels import width_x_height
from edvr_jax.media.read.source import Source
from edvr_jax.media.write.encode import Encoding
from edvr_jax.restore.postprocess import OutputFormat

if TYPE_CHECKING:
    from edvr_jax.commands.restore import Restore


def collect(
    command: "Restore",
    names: Mapping[str, str],
    num_networks: int,
    source: Source,
    encoding: Encoding | None,
    output_format: OutputFormat,
) -> dict[str, Any]:
    """Return the settings of a job, ready for JSON; ``names`` are the weights'."""
    options = ("ensemble", "padding", "scene_cuts", "tile", "overlap")
    return {
        "input": PIPE if source.is_pipe else fingerprint(command.input, source.names),
        "video_stream": source.video_stream,
        "fps": str(source.fps),
        **{name: getattr(command, name) for name in ("start", "end", "preview")},
        "weights": names,
        "networks": num_networks,
        "precision": None if command.artifact is not None else command.precision,
        **{name: getattr(command, name) for name in options},
        "size": width_x_height(output_format.written_size),
        "compare": command.compare,
        "encoding": None if encoding is None else encoding.to_dict(),
        "image_format": None if encoding is not None else command.image_format or "png",
        "versions": export_lib.versions(),
        "device": jax.local_devices()[0].device_kind,
    }
