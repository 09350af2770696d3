"""What ``edvr restore`` reports: before it begins, at its end, and in a report."""

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
from edvr_jax.restore import job
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.restorer import Restorer

_TRAITS = {
    traits.INTERLACED: "it is interlaced, at least in parts: a frame holds two half "
    "pictures; deinterlace it first for a better result",
    traits.CAPTIONS: "closed captions inside the picture's stream are left out; save "
    "them with ffmpeg -f lavfi -i 'movie=IN[out0+subcc]' -map 0:s captions.srt",
    traits.MASTERING: "HDR metadata (mastering display, light level) is left out; "
    "libx265 in .mp4, .mov or .mkv keeps it",
    traits.RESIZED: "frames of other sizes than the first one's are resized to it; "
    "--start and --end leave parts out",
}


def say(line: str) -> None:
    """Write a line where it does not mix with a pipe."""
    sys.stderr.write(f"{line}\n")


def count_frames(count: int) -> str:
    """Write a number of frames."""
    return f"{count} frame{'' if count == 1 else 's'}"


def announce(
    source: Source,
    target: Path,
    output_format: OutputFormat,
    encoding: Encoding | None,
    names: Sequence[str],
    image_format: str,
) -> None:
    """Say what will be done."""
    count = ""
    if source.num_frames is not None:
        about = "about " if source.is_estimate else ""
        count = f"{about}{count_frames(source.num_frames)}, "
    if encoding is None:
        what = f"{image_format} images in the folder {target}"
    elif is_pipe(target):
        what = f"y4m, {encoding.pix_fmt}"
    else:
        crf = dict(encoding.options).get("crf")
        quality = "" if crf is None else f", crf {crf}"
        what = f"{encoding.codec}, {encoding.pix_fmt}{quality}"
    before, after = source.size, output_format.written_size
    say(
        f"{source.path}: {count}{pixels.width_x_height(before)} -> "
        f"{pixels.width_x_height(after)} by {', then '.join(names)}; {what}"
    )


def note_input(
    source: Source, encoding: Encoding | None, *, is_chosen: bool
) -> set[str]:
    """Report what of the input does not come out as one may expect.

    Args:
        source: The clip.
        encoding: Of the output, if that is a video.
        is_chosen: The user chose the video stream.

    Returns:
        The traits of its frames that need no other note.
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
    """Keep the transparency if the output stores it; else a note says that it does not.

    One note names what stores it.
    """
    if encoding is None:
        is_kept, what = (
            output_format.compare is None and image_format != "jpg",
            image_format,
        )
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
    """Report what was seen only when the frames were read: damage, other sizes.

    Args:
        source: The clip.
        noted: What :func:`note_input` returned.
    """
    _note_traits(source, noted)
    if source.changes:
        again = len(source.changes) - 1
        say(
            f"note: {source.path}: the picture changes at {source.changes[0]}"
            f"{f', and {again} more times' if again else ''}; all frames became "
            f"{pixels.describe(source.size, source.dtype)}"
        )
    for warning in source.monitor.warnings() if source.monitor else ():
        say(f"note: {source.path} {warning}")


def show_progress(
    restorer: Restorer, written: Iterator[Any], first: int, count: int | None
) -> Iterator[Any]:
    """Yield the written frames, and show a bar with rate and remaining time.

    Args:
        restorer: Its tiles move the bar, too.
        written: The frames, one by one.
        first: Number of frames that were written before.
        count: Number of all frames; None if it is not known.
    """
    if first:
        say(f"continuing after {count_frames(first)}")
    with progress.open_bar(count, first=first) as bar:
        running = 0.0  # share of a frame that the tile before has

        def show(index: int, num_tiles: int) -> None:
            nonlocal running
            note = f"tile {index + 1} of {num_tiles}" if num_tiles > 1 else ""
            bar.advance(running, note)
            running = 1 / (num_tiles * restorer.num_passes)

        silent, restorer.on_tile = restorer.on_tile, show
        try:
            for item in written:
                yield item
                bar.update()
        finally:
            restorer.on_tile = silent


def after_stop(output: Path, stopped: job.Stopped) -> str:
    """Say what an interrupted job has left."""
    if not stopped.num_frames:
        return f"{output} was not written"
    if stopped.partial is None:
        line = f"{count_frames(stopped.num_frames)} restored so far"
    elif stopped.num_frames == 1:
        line = f"the first frame is in {stopped.partial}"
    else:
        line = f"the first {stopped.num_frames} frames are in {stopped.partial}"
    if stopped.can_resume:
        line += "; the same command with --resume goes on"
    return line


def report(
    result: job.Result, settings: dict[str, Any], source: Source, restorer: Restorer
) -> dict[str, Any]:
    """Return a report, ready for JSON."""
    return {
        "frames": result.num_frames,
        "restored_frames": result.num_restored,
        **_completeness(source.monitor),
        "seconds": result.seconds,
        "frames_per_second": result.num_restored / result.seconds,
        "stages": result.stages,
        "changes": source.changes,
        "input": PIPE if source.is_pipe else str(source.path.absolute()),
        "input_size": list(source.size),
        "input_fps": str(source.fps),
        "plans": restorer.plans,
        "settings": settings,
    }


def _completeness(monitor: DecodeMonitor | None) -> dict[str, Any]:
    """Return what the container announces (None: nothing), and what came."""
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


def summarize(
    target: Path, source: Source, output_format: OutputFormat, result: job.Result
) -> str:
    """Say what was written."""
    speed = result.seconds / max(1, result.num_restored)
    sizes = map(pixels.width_x_height, (source.size, output_format.written_size))
    return (
        f"{target}: {count_frames(result.num_frames)}, {' -> '.join(sizes)}, "
        f"{speed:.2f} s per frame"
    )
