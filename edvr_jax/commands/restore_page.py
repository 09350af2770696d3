"""The page of ``edvr restore --report-html``: records a clip while it is restored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edvr_jax import files
from edvr_jax.commands import output, paths
from edvr_jax.media.read.pixels import width_x_height
from edvr_jax.media.read.source import Source
from edvr_jax.report import maps, page
from edvr_jax.report.recorder import ClipRecorder
from edvr_jax.restore import job
from edvr_jax.restore.compiled import CompiledNetwork
from edvr_jax.restore.restorer import Restorer


def check(
    path: Path | None, places: Mapping[str, Sequence[Path]], *, overwrite: bool
) -> None:
    """Check before the work that the page can be written after it.

    Raises:
        InputError: as :func:`edvr_jax.commands.paths.check_report`, or if jinja2 is
            missing.
    """
    if path is not None:
        page.check_installed()
        paths.check_report(
            path,
            places,
            overwrite=overwrite,
            option="--report-html",
            check=output.check_page,
        )


def create_recorder(source: Source, restorer: Restorer) -> ClipRecorder:
    """Return a recorder for the frames of a job."""
    return ClipRecorder(
        source.path.name,
        restorer.networks[0].network.config,
        padding=restorer.options.padding,
        scene_cuts=restorer.options.scene_cuts,
    )


def write(
    path: Path,
    recorder: ClipRecorder,
    network: CompiledNetwork | None,
    task: job.Job,
    result: job.Result,
    settings: Mapping[str, Any],
) -> None:
    """Write the page.

    Args:
        path: The file.
        recorder: It has seen the frames.
        network: The first one, for its maps; None for an exported network, which keeps
            its offsets to itself.
        task: The job.
        result: What it has done.
        settings: Of the job.

    Raises:
        OutputError: if it cannot be written.
    """
    record, found, notes = recorder.finish(), None, []
    if network is None:
        notes.append("An exported network gives no maps; the weights do.")
    elif record.window is not None:
        found = maps.compute(network.config, network.params, record.window)
        if settings["networks"] > 1:
            notes.append(page.FIRST_NETWORK)
    if earlier := result.num_frames - result.num_restored:
        notes.append(
            f"{job.count_frames(earlier)} of an earlier run are in the output, but not "
            "on this page."
        )
    sizes = task.source.size, task.output_format.size
    before, after = map(width_x_height, sizes)
    networks = ", then ".join(Path(name).name for name in settings["weights"])
    tree = {"digest of the input": settings["input"], **settings}
    del tree["input"]
    versions = {**tree.pop("versions"), "device": tree.pop("device")}
    text = page.render(
        {
            "kind": "Restoration",
            "title": task.source.path.name,
            "subtitle": f"{before} to {after} by {networks}, "
            f"written to {task.output.name}",
            "tiles": _tiles(task, result),
            "notes": notes,
            "clips": [
                page.clip_facts(
                    record,
                    max_bytes=page.MAX_IMAGE_BYTES,
                    maps=found,
                    heading="Before and after",
                )
            ],
            "table": [],
            "settings": {
                "Settings": page.flatten_settings(tree),
                "Versions": page.flatten_settings(versions),
            },
        }
    )
    files.write(path, text.encode())


def _tiles(task: job.Job, result: job.Result) -> list[dict[str, Any]]:
    seconds = result.seconds / max(1, result.num_restored)
    return [
        page.tile("Frames", str(result.num_frames), is_strong=True),
        page.tile(
            "Size",
            width_x_height(task.output_format.size),
            note=f"from {width_x_height(task.source.size)}",
        ),
        page.tile("Time per frame", f"{seconds:.2f}", "s"),
        page.tile("Time in all", f"{result.seconds:.0f}", "s"),
    ]
