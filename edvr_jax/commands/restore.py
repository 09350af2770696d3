"""``edvr restore``: a video file or a folder of frames in, the same out."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import jax
import numpy as np
import tqdm
import tyro

import edvr_jax.export as export_lib
from edvr_jax import weights
from edvr_jax.commands import output as output_lib
from edvr_jax.commands.values import parse_rate, parse_seconds
from edvr_jax.data.images import list_images
from edvr_jax.errors import InputError
from edvr_jax.interruption import INTERRUPTED
from edvr_jax.restore import copying, encoder, job
from edvr_jax.restore.network import Network, create_networks
from edvr_jax.restore.picture import Compare, Look
from edvr_jax.restore.source import Source, Trim
from edvr_jax.restore.stream import Restorer
from edvr_jax.restore.writer import check_output

PIPE = "-"


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore a video file or a folder of frames: super-resolution or deblurring.

    Frames may have any size and number; they pass a few at a time. As many come out as
    went in, at the same times, and sound, subtitles, chapters and metadata are copied.
    The output appears only when it is complete; a stopped job goes on with --resume.

    Attributes:
        input: A video file (mp4, mkv, webm, mov, avi, gif, y4m, ...), a folder with the
            frames of one clip (png, jpg, bmp, tif, webp) in natural order, or - for
            YUV4MPEG2 from a pipe.
        output: A video file (mp4, m4v, mov, mkv, webm, avi, gif, y4m), a folder for
            images, or - for YUV4MPEG2 to a pipe.
        weights: Names of weights that ship, or .safetensors or .pth files, also in a
            PyTorch layout. Several are applied one after the other.
        stage2: Weights of a second stage, which refines what the others restored.
        artifact: A file of `edvr export` to run instead of weights.
        precision: Computation type.
        scale: Size of the output over the input's; by default the networks'. What they
            give is resized to it (Lanczos).
        ensemble: Restore each frame also flipped, in each stage, and average: a little
            better in four times the time.
        padding: Frames that stand in for those before the first and after the last.
        scene_cuts: Find cuts, and let no window reach across one.
        tile: Side of the parts that frames are cut into, in pixels, margins included:
            "auto" by the free memory, 0 for whole frames.
        overlap: Margin of a tile in pixels.
        start: Begin here, in seconds or as H:MM:SS.
        end: End here, in seconds or as H:MM:SS.
        preview: Restore only so many frames.
        compare: Show the input too: both side by side, or split in the middle.
        codec: Encoder by FFmpeg's name, such as libx264, libx265, libsvtav1, prores_ks,
            ffv1, h264_nvenc.
        crf: Quality of the encoder, 0 is best; by default 17 where it has one.
        pix_fmt: Pixel format by FFmpeg's name; by default the input's depth is kept.
        encoder_options: More for the encoder, as key=value.
        image_format: Format of a folder's frames.
        fps: Frames per second of a folder of frames, a number or a ratio such as
            30000/1001; a video keeps its own times.
        streams: Copy all other streams of a video, or give the picture alone.
        resume: Go on with a job that was stopped.
        overwrite: Replace an existing output.
        report: JSON file with what was done, how, and how long it took.
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    weights: tuple[str, ...] = ("edvr_s_x4",)
    stage2: str | None = None
    artifact: Path | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    scale: float | None = None
    ensemble: bool = False
    padding: Literal["replicate", "reflection", "reflection_circle", "circle"] = (
        "reflection_circle"
    )
    scene_cuts: bool = True
    tile: int | Literal["auto"] = "auto"
    overlap: int | None = None
    start: str | None = None
    end: str | None = None
    preview: int | None = None
    compare: Compare | None = None
    codec: str | None = None
    crf: int | None = None
    pix_fmt: str | None = None
    encoder_options: tuple[str, ...] = ()
    image_format: Literal["png", "tif", "webp", "jpg"] = "png"
    fps: str = "25"
    streams: Literal["all", "video"] = "all"
    resume: bool = False
    overwrite: bool = False
    report: Path | None = None

    def run(self) -> int | None:
        """Restore the clip and say what was written.

        Returns:
            Exit code: None (0), or 130 after Ctrl-C.
        """
        # A broken image is reported once, by us.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._run()
        except job.Stopped as stopped:
            _say(f"\ninterrupted: {_after_stop(self.output, stopped)}")
            return INTERRUPTED
        except KeyboardInterrupt:
            _say(f"\ninterrupted: {self.output} was not written")
            return INTERRUPTED
        return None

    def _run(self) -> None:
        is_video = self._check_paths()
        networks, names = self._load()
        restorer = self._create_restorer(networks)
        source = self._open_source()
        look = self._look(source, restorer, is_video=is_video)
        encoding = self._encoding(source, look) if is_video else None
        settings = self._settings(names, encoding, look)
        if str(self.output) == PIPE:
            assert encoding is not None
            result = job.restore_to_pipe(
                source, sys.stdout.buffer, restorer, look, encoding, _progress
            )
        else:
            result = job.Job(
                source,
                self.output,
                restorer,
                look,
                encoding,
                image_format=f".{self.image_format}",
                original=self._original(source) if is_video else None,
            ).run(settings, _progress, resume=self.resume, overwrite=self.overwrite)
        if source.num_lost:
            _say(
                f"note: {self.input} is damaged: {source.num_lost} of its frames "
                "cannot be decoded and are not in the output"
            )
        if self.report is not None:
            output_lib.write_json(
                self.report, _report(result, settings, source, restorer)
            )
        line = _summarize(self.output, source, look, result)
        if str(self.output) == PIPE:
            _say(line)
        else:
            sys.stdout.write(f"{line}\n")

    def _check_paths(self) -> bool:
        """Tell if a video is to be written; refuse what cannot work."""
        is_pipe = PIPE in (str(self.input), str(self.output))
        if is_pipe and self.resume:
            raise InputError("a pipe cannot be resumed; give files")
        output_lib.check_new(self.report, overwrite=self.overwrite)
        if str(self.output) == PIPE:
            return True
        if str(self.input) != PIPE:
            _check_apart(self.input, self.output)
        return check_output(self.output, overwrite=self.overwrite)

    def _load(self) -> tuple[list[Network], dict[str, str]]:
        """Load the networks, and the fingerprint of each file by its name."""
        if self.artifact is not None:
            for name in ("weights", "stage2", "precision"):
                if getattr(self, name) != getattr(type(self), name):
                    raise InputError(
                        f"--artifact {self.artifact} holds its own {name}; leave "
                        f"--{name} out"
                    )
            networks, digest = export_lib.load(self.artifact)
            _check_channels(str(self.artifact), networks)
            return networks, {str(self.artifact): digest}
        networks, names = [], {}
        for name in (*self.weights, *([self.stage2] if self.stage2 else [])):
            config, params = weights.load_weights(name)
            found = create_networks(config.with_dtype(self.precision), params)
            _check_channels(name, found)
            if name == self.stage2 and config.output_scale != 1:
                raise InputError(
                    f"{name}: a second stage must keep the size, but this network's "
                    f"scale is {config.output_scale}"
                )
            networks += found
            names[name] = weights.fingerprint(params)
        return networks, names

    def _create_restorer(self, networks: list[Network]) -> Restorer:
        return Restorer(
            networks,
            padding=self.padding,
            tile=self.tile or None,
            overlap=self.overlap,
            ensemble=self.ensemble,
            scene_cuts=self.scene_cuts,
            log=lambda line: tqdm.tqdm.write(line, file=sys.stderr),
        )

    def _open_source(self) -> Source:
        source = Source(
            self.input,
            Trim(
                parse_seconds(self.start or "0", "start"),
                None if self.end is None else parse_seconds(self.end, "end"),
                self.preview,
            ),
            fps=parse_rate(self.fps),
            pipe=sys.stdin.buffer if str(self.input) == PIPE else None,
            output_without_times=self._output_without_times(),
        )
        if source.is_interlaced:
            _say(
                f"note: {self.input} is interlaced: each frame holds two half pictures;"
                " deinterlace it first for a better result"
            )
        return source

    def _output_without_times(self) -> Path | None:
        if str(self.output) == PIPE:
            return self.output
        container = encoder.CONTAINERS.get(self.output.suffix.lower())
        return None if container is None or container.keeps_times else self.output

    def _look(self, source: Source, restorer: Restorer, *, is_video: bool) -> Look:
        height, width = source.size
        if self.scale is None:
            size = height * restorer.scale, width * restorer.scale
        else:
            if not 0 < self.scale <= 64:
                raise InputError(f"scale must be in 0..64, got {self.scale}")
            step = 2 if is_video else 1  # what 4:2:0 takes
            size = (
                max(step, round(height * self.scale / step) * step),
                max(step, round(width * self.scale / step) * step),
            )
        return Look(size, self.compare)

    def _encoding(self, source: Source, look: Look) -> encoder.Encoding:
        is_pipe = str(self.output) == PIPE
        return encoder.choose_encoding(
            Path("pipe.y4m") if is_pipe else self.output,
            look.written_size,
            fps=source.fps,
            time_base=source.time_base,
            codec=self.codec,
            pix_fmt=self.pix_fmt,
            crf=self.crf,
            options=self.encoder_options,
            is_deep=source.dtype == np.uint16,
            colors=source.colors,
            pixel_aspect=source.pixel_aspect,
        )

    def _original(self, source: Source) -> copying.Original | None:
        """What is copied beside the picture."""
        if self.streams == "video" or source.names or str(self.input) == PIPE:
            return None
        streams, notes = copying.choose_streams(self.output, self.input)
        for note in notes:
            _say(f"note: {note}")
        is_cut = any(x is not None for x in (self.start, self.end, self.preview))
        return copying.Original(self.input, streams, source.origin, is_cut)

    def _settings(
        self,
        names: dict[str, str],
        encoding: encoder.Encoding | None,
        look: Look,
    ) -> dict[str, Any]:
        """All that the restored frames depend on, ready for JSON."""
        options = dataclasses.asdict(self)
        for name in ("input", "output", "resume", "overwrite", "report", "artifact"):
            del options[name]
        del options["streams"]  # what is copied may be chosen again
        if self.artifact is not None:
            del options["precision"]  # is its own
        return {
            "input": _identify(self.input),
            **options,
            "weights": names,
            "size": list(look.written_size),
            "encoding": None if encoding is None else encoding.to_dict(),
            "versions": export_lib.versions(),
            "device": jax.local_devices()[0].device_kind,
        }


def _identify(path: Path) -> dict[str, Any]:
    """What tells an input from another one, or from itself after a change."""
    if str(path) == PIPE:
        return {"path": PIPE}
    found = list_images(path) if path.is_dir() else [path]
    facts = [file.stat() for file in found]
    return {
        "path": str(path.resolve()),
        "bytes": sum(fact.st_size for fact in facts),
        "changed": max(fact.st_mtime for fact in facts),
    }


def _progress(written: Iterator[Any], first: int, count: int | None) -> Iterable[Any]:
    return tqdm.tqdm(written, initial=first, total=count, unit="frame", disable=None)


def _say(line: str) -> None:
    """Write a line where it does not mix with a pipe."""
    sys.stderr.write(f"{line}\n")


def _after_stop(output: Path, stopped: job.Stopped) -> str:
    if not stopped.num_frames:
        return f"{output} was not written"
    if stopped.partial is not None:
        line = f"the first {stopped.num_frames} frames are in {stopped.partial}"
    else:
        line = f"{stopped.num_frames} frames are restored"
    if stopped.can_resume:
        line += "; the same command with --resume goes on"
    return line


def _check_apart(source: Path, target: Path) -> None:
    inner, outer = source.resolve(), target.resolve()
    if inner == outer:
        raise InputError(f"{target}: the output is the input; choose another name")
    if outer.is_relative_to(inner) or inner.is_relative_to(outer):
        raise InputError(
            f"{target}: the output lies inside the input {source}, or the input "
            "inside the output; put it elsewhere"
        )


def _check_channels(name: str, networks: list[Network]) -> None:
    """Check that networks take and give RGB."""
    channels = networks[0].config.in_channels, networks[-1].config.out_channels
    if channels != (3, 3):
        raise InputError(
            f"{name}: this network takes {channels[0]} channels and gives "
            f"{channels[1]}; video needs weights for RGB"
        )


def _report(
    result: job.Result, settings: dict[str, Any], source: Source, restorer: Restorer
) -> dict[str, Any]:
    return {
        "frames": result.num_frames,
        "restored_frames": result.num_restored,
        "lost_frames": source.num_lost,
        "seconds": result.seconds,
        "frames_per_second": result.num_restored / result.seconds,
        "stages": result.stages,
        "input_size": list(source.size),
        "input_fps": str(source.fps),
        "plans": restorer.plans,
        "settings": settings,
    }


def _summarize(target: Path, source: Source, look: Look, result: job.Result) -> str:
    (height, width), (new_height, new_width) = source.size, look.written_size
    speed = result.seconds / max(1, result.num_restored)
    return (
        f"{target}: {result.num_frames} frames, {width}x{height} -> "
        f"{new_width}x{new_height}, {speed:.2f} s per frame"
    )
