"""What ``edvr restore`` reports: notes, progress, and the file of --report."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from edvr_jax import progress
from edvr_jax.commands.paths import PIPE, is_pipe
from edvr_jax.media.read import images, pixels, traits
from edvr_jax.media.read.source import Source
from edvr_jax.media.read.truncation import DecodeMonitor
from edvr_jax.media.write.encode import Encoding
from edvr_jax.restore import job, pipeline
from edvr_jax.restore.postprocess import OutputFormat

_TRAITS = {
    traits.INTERLACED: "it is interlaced, at least in parts: a frame contains two "
    "fields; deinterlace it first for a better result",
    traits.CAPTIONS: "closed captions inside the video stream are left out; save "
    "them with ffmpeg -f lavfi -i 'movie=IN[out0+subcc]' -map 0:s captions.srt",
    traits.MASTERING: "HDR metadata (mastering display, light level) is left out; "
    "libx265 in .mp4, .mov or .mkv keeps it",
    traits.RESIZED: "frames of other sizes than the first one's are resized to it; "
    "--start and --end leave parts out",
}


def say(line: str) -> None:
    """Write a line to stderr, as stdout may be a pipe of frames."""
    sys.stderr.write(f"{line}\n")


def announce(task: job.Job, names: Sequence[str]) -> None:
    """Report what will be done, and by which weights."""
    source, encoding, count = task.source, task.encoding, ""
    if source.num_frames is not None:
        about = "about " if source.is_estimate else ""
        count = f"{about}{job.count_frames(source.num_frames)}, "
    if task.shard is not None:
        count += f"share {task.shard}, {_describe_frames(task.frames)}, "
    if encoding is None:
        what = f"{task.image_format} images in the folder {task.output}"
    elif is_pipe(task.output):
        what = f"y4m, {encoding.pix_fmt}"
    else:
        crf = dict(encoding.options).get("crf")
        quality = "" if crf is None else f", crf {crf}"
        what = f"{encoding.codec}, {encoding.pix_fmt}{quality}"
    networks = ", then ".join(names)
    say(f"{source.path}: {count}{_sizes(task)} by {networks}; {what}")


def _describe_frames(frames: range) -> str:
    if not frames:
        return "which has none"
    if frames.stop == pipeline.ALL.stop:
        return f"from frame {frames.start + 1} on"
    return f"frames {frames.start + 1} to {frames.stop}"


def _sizes(task: job.Job) -> str:
    sizes = task.source.size, task.output_format.written_size
    return " -> ".join(map(pixels.width_x_height, sizes))


def note_input(
    source: Source, encoding: Encoding | None, *, is_chosen: bool
) -> set[str]:
    """Report what of the input the output does not contain, or contains changed.

    Args:
        source: The clip.
        encoding: Of the output, if that is a video.
        is_chosen: Whether the user chose the video stream.

    Returns:
        Traits of its frames that need no further note.
    """
    path = source.path
    source.look_ahead()
    is_kept = encoding and encoding.codec == "libx265" and source.colors.hdr
    kept = {traits.MASTERING} if is_kept else set()
    _note_traits(source, kept)
    if len(source.video_streams) > 1 and not is_chosen:
        say(
            f"note: {path} has several video streams, {', '.join(source.video_streams)}"
            f"; stream {source.video_stream} is restored; --video-stream chooses"
        )
    noted = source.traits | kept
    if not source.names:
        return noted
    for gap in images.find_gaps(source.names)[:1]:
        say(f"note: {path}: there is no frame between {gap[0]} and {gap[1]}")
    return noted


def keep_alpha(
    source: Source,
    target: Path,
    output_format: OutputFormat,
    encoding: Encoding | None,
    image_format: str,
) -> OutputFormat:
    """Keep the transparency if the output stores it; else a note names what does."""
    if encoding is None:
        is_kept = output_format.compare is None and image_format != "jpg"
        what = image_format
    else:
        is_kept = encoding.with_alpha
        suffix = target.suffix or ".y4m"  # of a pipe
        what = f"{suffix} with {encoding.codec} ({encoding.pix_fmt})"
    if source.has_alpha and output_format.compare:
        say(f"note: --compare leaves the transparency of {source.path} out")
    elif source.has_alpha and not is_kept:
        say(
            f"note: transparent parts of {source.path}, if any, become opaque, as "
            f"{what} stores no transparency; a folder of png, tif or webp images does, "
            "and .webm, .gif (on or off), and .mov with --codec prores_ks"
        )
    return dataclasses.replace(output_format, with_alpha=source.has_alpha and is_kept)


def _note_traits(source: Source, noted: Set[str]) -> None:
    for trait in sorted(source.traits - noted):
        dynamic = f"{trait} metadata is left out; without it, colors may change"
        say(f"note: {source.path}: {_TRAITS.get(trait, dynamic)}")


def note_end(source: Source, noted: Set[str]) -> None:
    """Report what became known when the frames were read: damage, other sizes.

    Args:
        source: The clip.
        noted: What :func:`note_input` returned.
    """
    _note_traits(source, noted)
    if source.changes:
        again = len(source.changes) - 1
        say(
            f"note: {source.path}: the video changes at {source.changes[0]}"
            f"{f', and {again} more times' if again else ''}; all frames became "
            f"{pixels.describe(source.size, source.dtype)}"
        )
    for warning in source.monitor.warnings() if source.monitor else ():
        say(f"note: {source.path} {warning}")


class ProgressBar:
    """Shows rate and remaining time; tiles count as parts of a frame.

    Args:
        num_passes: How often a frame passes through a network.
    """

    def __init__(self, num_passes: int):
        self._num_passes = num_passes
        self._bar: progress.Bar | None = None
        self._running = 0.0  # the share of a frame that the current tile is

    def track(
        self, written: Iterator[Any], first: int, count: int | None
    ) -> Iterator[Any]:
        """Yield the written frames; see :class:`edvr_jax.restore.pipeline.Progress`."""
        if first:
            say(f"continuing after {job.count_frames(first)}")
        with progress.open_bar(count, first=first) as bar:
            self._bar = bar
            try:
                for item in written:
                    yield item
                    bar.update()
            finally:
                self._bar = None  # other threads may not have ended

    def on_tile(self, index: int, num_tiles: int) -> None:
        """Advance the bar by the tile before."""
        if (bar := self._bar) is not None:
            note = f"tile {index + 1} of {num_tiles}" if num_tiles > 1 else ""
            bar.advance(self._running, note)
            self._running = 1 / (num_tiles * self._num_passes)


def report(
    task: job.Job, result: job.Result, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return a report, ready for JSON."""
    source = task.source
    return {
        "shard": None if task.shard is None else str(task.shard),
        "frames": result.num_frames,
        "restored_frames": result.num_restored,
        **_completeness(source.monitor),
        "seconds": result.seconds,
        "frames_per_second": result.num_restored / result.seconds,
        "stages": result.busy_seconds,
        "changes": source.changes,
        "input": PIPE if source.is_pipe else str(source.path.absolute()),
        "input_size": list(source.size),
        "input_fps": str(source.fps),
        "plans": task.restorer.plans,
        "settings": settings,
    }


def _completeness(monitor: DecodeMonitor | None) -> dict[str, Any]:
    """Return what the container announces (None: nothing), and what was decoded."""
    if monitor is None:
        return {"lost_frames": 0, "concealed_frames": 0}
    end = monitor.announced_end
    return {
        "announced_frames": monitor.announced_frames,
        "announced_end_seconds": None if end is None else float(end),
        "decoded_frames": monitor.num_frames,
        "decoded_end_seconds": float(monitor.end),
        "is_read_to_end": monitor.is_at_end,
        "lost_frames": monitor.num_lost,
        "concealed_frames": monitor.num_concealed,
    }


def summarize(task: job.Job, result: job.Result) -> str:
    """Describe what was written."""
    line = f"{task.output}: "
    if task.shard is not None:
        line += f"share {task.shard} is complete; when all are, --join; "
    line += f"{job.count_frames(result.num_frames)}, {_sizes(task)}"
    if result.num_restored:  # else by earlier runs, or by shares
        line += f", {result.seconds / result.num_restored:.2f} s per frame"
    return line
