"""``edvr restore``: a video file or a folder of frames in, the same out."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import jax
import numpy as np
import tyro

from edvr_jax.commands import (
    library_clips,
    restore_library,
    restore_page,
    restore_report,
    restore_settings,
    restore_weights,
)
from edvr_jax.commands import output as output_lib
from edvr_jax.commands.paths import (
    check_apart,
    check_new_output,
    check_report,
    is_pipe,
)
from edvr_jax.commands.restore_report import say
from edvr_jax.commands.restore_weights import NetworkLoader, choose_weights
from edvr_jax.commands.shard import parse_shard_of_clip
from edvr_jax.commands.values import parse_rate, parse_seconds
from edvr_jax.errors import INTERRUPTED, InputError, Stopped
from edvr_jax.files import places_beside
from edvr_jax.media.read.source import Source, open_source
from edvr_jax.media.read.timeline import Trim
from edvr_jax.media.write import encode, stream_copy
from edvr_jax.media.write.writer import check_output
from edvr_jax.restore import job
from edvr_jax.restore.compiled import CompiledNetwork
from edvr_jax.restore.postprocess import Compare, OutputFormat
from edvr_jax.restore.restorer import RestoreOptions, Restorer
from edvr_jax.restore.windows import Padding


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore videos or folders of frames: super-resolution or deblurring.

    Frames may have any size and number; a few are in memory at a time. The output has
    the same number of frames at the same times, and sound, subtitles, chapters and
    metadata are copied. It appears only when it is complete; --resume continues a
    stopped job.

    Attributes:
        input: A video file (mp4, mkv, webm, mov, avi, gif, apng, y4m, ...), a folder
            with the frames of one clip (png, jpg, bmp, tif, webp) in natural order,
            or - for YUV4MPEG2 from a pipe. Or a library: a folder of videos and
            folders of frames, which are restored one after the other.
        output: A video file (mp4, m4v, mov, mkv, webm, gif, y4m), a folder for
            images, or - for YUV4MPEG2 to a pipe; of a library the folder for all.
        weights: Names of weights that ship, .safetensors or .pth files, also in a
            PyTorch layout, or hf://ORG/NAME. Several are applied one after the other;
            write IN and OUT before this option. By default edvr_s_x2_web for a video
            that looks compressed, else edvr_s_x4.
        stage2: Weights of a second stage, which refines the restored frames.
        artifact: A file of `edvr export` to run instead of weights.
        precision: Computation type.
        scale: Size of the output relative to the input's; by default the networks'
            scale. Restored frames are resized to it (Lanczos).
        ensemble: Restore each frame also flipped, in each stage, and average: slightly
            better in four times the time.
        padding: Frames that stand in for those before the first and after the last.
        scene_cuts: Detect cuts; no window reaches across one.
        tile: Side in pixels of the tiles that frames are divided into, margins
            included: "auto" by the free memory, 0 for whole frames.
        overlap: Margin of a tile in pixels.
        start: Begin here, in seconds or as H:MM:SS.
        end: End here, in seconds or as H:MM:SS.
        preview: Restore only this many frames.
        compare: Show the input too: side by side, or split in the middle.
        codec: Encoder by FFmpeg's name, such as libx264, libx265, libsvtav1, prores_ks,
            ffv1, h264_nvenc.
        crf: Quality of the encoder, 0 is best; by default 17 where it has one.
        pix_fmt: Pixel format by FFmpeg's name; by default the input's depth is kept.
        encoder_options: Further options of the encoder, as key=value; write IN and OUT
            before this option.
        image_format: Format of a folder's frames; by default png.
        fps: Frames per second of a folder of frames, a number or a ratio such as
            30000/1001; by default 25. A video keeps its own times.
        video_stream: Number of the video stream to restore, as ffprobe shows it; by
            default FFmpeg's choice, the default stream or the largest.
        streams: Copy all other streams of a video, or write the video stream alone.
        resume: Continue a job that was stopped.
        overwrite: Replace an existing output.
        shard: Restore a share of a library's clips, or of the frames of one clip: 3/8
            is the third of eight; auto for a task of a Slurm array, auto/8 also for
            one of a Kubernetes indexed job.
        join: Write the output of one clip from its shares, when all are complete.
        report: JSON file for a report: frames, settings, durations.
        report_html: Web page to look at: frames to wipe and magnify, the temporal
            profile, offsets, settings. Needs the extra edvr-jax[report].
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    weights: tuple[str, ...] | None = None
    stage2: str | None = None
    artifact: Path | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    scale: float | None = None
    ensemble: bool = False
    padding: Padding = "reflection_circle"
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
    image_format: Literal["png", "tif", "webp", "jpg"] | None = None
    fps: str | None = None
    video_stream: int | None = None
    streams: Literal["all", "video"] = "all"
    resume: bool = False
    overwrite: bool = False
    shard: str | None = None
    join: bool = False
    report: Path | None = None
    report_html: Path | None = None

    def run(self) -> int | None:
        """Restore the clip or the library and report what was written.

        Returns:
            Exit code: None (0), 130 after Ctrl-C, or 1 if clips of a library failed.
        """
        # This package reports a broken image itself.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            if clips := library_clips.find_clips(self.input):
                return restore_library.restore(self, clips)
            self.restore(self.load_networks)
        except Stopped as stopped:
            say(f"\ninterrupted: {stopped}")
            return stopped.code
        except KeyboardInterrupt:
            say(f"\ninterrupted: {self.output} was not written")
            return INTERRUPTED
        return None

    def restore(self, load: NetworkLoader) -> dict[str, Any]:
        """Restore the clip by networks that ``load`` gives; return the report."""
        shard = parse_shard_of_clip(self)
        is_video = self.check_paths()
        with contextlib.closing(self.open_source()) as source:
            networks, names = load(self._choose_weights(source))
            restorer = self.create_restorer(networks)
            output_format, encoding = self.choose_format(
                source, restorer, is_video=is_video
            )
            output_format = restore_report.keep_alpha(
                source, self.output, output_format, encoding, self._image_format
            )
            streams = self._streams(source, is_video=is_video)
            noted = restore_report.note_input(
                source, encoding, is_chosen=self.video_stream is not None
            )
            source.check()
            settings = restore_settings.collect(
                self, names, len(networks), source, encoding, output_format
            )
            recorder = None
            if self.report_html is not None:
                recorder = restore_page.create_recorder(source, restorer)
            task = job.Job(
                source,
                self.output,
                restorer,
                output_format,
                encoding,
                image_format=self._image_format,
                streams=streams,
                recorder=recorder,
                shard=shard,
            )
            restore_report.announce(task, list(names))
            progress = restore_report.ProgressBar(restorer.num_passes)
            try:
                if is_pipe(self.output):
                    result = task.run_to_pipe(sys.stdout.buffer, progress)
                else:
                    # The scheduler runs the command of a share again.
                    resume = self.resume or (shard is not None and not self.overwrite)
                    options = {"resume": resume, "overwrite": self.overwrite}
                    result = task.run(settings, progress, **options, join=self.join)
            finally:
                restore_report.note_end(source, noted)
        tree = restore_report.report(task, result, settings)
        if self.report is not None:
            output_lib.write_json(self.report, tree)
        if self.report_html is not None and recorder is not None:
            network = None if self.artifact is not None else networks[0]
            restore_page.write(
                self.report_html, recorder, network, task, result, settings
            )
        line = restore_report.summarize(task, result)
        (sys.stderr if is_pipe(self.output) else sys.stdout).write(f"{line}\n")
        return tree

    @property
    def _image_format(self) -> str:
        return self.image_format or "png"

    def check_paths(self) -> bool:
        """Return whether the output is a video; refuse paths that cannot work."""
        if self.resume and (is_pipe(self.input) or is_pipe(self.output)):
            raise InputError(
                "a pipe cannot be resumed; use files, or leave --resume out"
            )
        is_video = True
        outputs = [self.output]
        if not is_pipe(self.output):
            is_video = check_output(self.output, overwrite=True)
            outputs += places_beside(self.output)
            if not is_pipe(self.input):
                check_apart(self.input, self.output)
        places = {
            "input": [self.input],
            "output": outputs,
            "weights": [Path(name) for name in self.weights or ()],
            "second stage": [Path(self.stage2)] if self.stage2 else [],
            "artifact": [self.artifact] if self.artifact else [],
        }
        check_report(self.report, places, overwrite=self.overwrite)
        places["other report"] = [self.report] if self.report else []
        restore_page.check(self.report_html, places, overwrite=self.overwrite)
        if not (is_pipe(self.output) or self.overwrite):
            check_new_output(self.output)
        if is_video and self.image_format is not None:
            raise InputError(
                f"--image-format is for a folder of images, but {self.output} is a "
                "video; leave it out"
            )
        return is_video

    def _choose_weights(self, source: Source) -> tuple[str, ...]:
        """Return the names of the weights, without that of the second stage."""
        if self.artifact is not None:
            return ()
        if self.weights is not None:
            return self.weights
        return choose_weights(source)

    def load_networks(self, chosen: Sequence[str]) -> restore_weights.Loaded:
        """Load the networks, and the fingerprint of each file by its name."""
        if self.artifact is not None:
            for name in ("weights", "stage2", "precision"):
                if getattr(self, name) != getattr(type(self), name):
                    raise InputError(
                        f"--artifact {self.artifact} contains its own {name}; leave "
                        f"--{name} out"
                    )
            return restore_weights.load_artifact(self.artifact)
        return restore_weights.load_networks(chosen, self.stage2, self.precision)

    def create_restorer(self, networks: list[CompiledNetwork]) -> Restorer:
        """Return the networks with the options for them."""
        options = RestoreOptions(
            padding=self.padding,
            tile=self.tile or None,
            overlap=self.overlap,
            ensemble=self.ensemble,
            scene_cuts=self.scene_cuts,
        )
        restorer = Restorer(networks, options)
        if self.precision == "bfloat16" and jax.default_backend() == "cpu":
            say("note: bfloat16 is slower than float32 on CPU")
        return restorer

    def parse_part(self) -> tuple[Trim, Fraction]:
        """Return the part to read, and the frame rate of a folder of frames."""
        trim = Trim(
            parse_seconds(self.start or "0", "start"),
            None if self.end is None else parse_seconds(self.end, "end"),
            self.preview,
        )
        return trim, parse_rate(self.fps or "25")

    def open_source(self) -> Source:
        """Open the clip, and refuse options that are for another kind."""
        trim, fps = self.parse_part()
        source = open_source(
            Path("the input pipe") if is_pipe(self.input) else self.input,
            trim,
            fps=fps,
            pipe=sys.stdin.buffer if is_pipe(self.input) else None,
            video_stream=self.video_stream,
        )
        if self.video_stream is not None and source.names:
            raise InputError("--video-stream is for a video file; leave it out")
        if self.fps is not None and not source.names:
            source.close()
            raise InputError(
                f"--fps is for a folder of frames, but {self.input} has its own times, "
                "which are kept; leave it out"
            )
        return source

    @property
    def _is_cut(self) -> bool:
        return any(x is not None for x in (self.start, self.end, self.preview))

    def choose_format(
        self, source: Source, restorer: Restorer, *, is_video: bool
    ) -> tuple[OutputFormat, encode.Encoding | None]:
        """Return the size of the output's frames, and the encoding of a video."""
        output_format = self._output_format(source, restorer, is_video=is_video)
        encoding = self._encoding(source, output_format) if is_video else None
        return output_format, encoding

    def _output_format(
        self, source: Source, restorer: Restorer, *, is_video: bool
    ) -> OutputFormat:
        height, width = source.size
        if self.scale is None:
            size = height * restorer.scale, width * restorer.scale
        else:
            if not 1 / 16 <= self.scale <= 64:
                raise InputError(f"scale must be in 1/16..64, got {self.scale}")
            step = 2 if is_video else 1  # 4:2:0 needs even sizes
            size = (
                max(step, round(height * self.scale / step) * step),
                max(step, round(width * self.scale / step) * step),
            )
        return OutputFormat(size, self.compare)

    def _encoding(self, source: Source, output_format: OutputFormat) -> encode.Encoding:
        request = encode.EncodingRequest(
            Path("pipe.y4m") if is_pipe(self.output) else self.output,
            output_format.written_size,
            fps=source.fps,
            time_base=source.time_base,
            codec=self.codec,
            pix_fmt=self.pix_fmt,
            crf=self.crf,
            options=self.encoder_options,
            is_high_bit_depth=source.dtype == np.uint16,
            has_alpha=source.has_alpha and output_format.compare is None,
            colors=source.colors,
            pixel_aspect=source.pixel_aspect,
        )
        return encode.choose_encoding(request)

    def _streams(
        self, source: Source, *, is_video: bool
    ) -> stream_copy.StreamCopy | None:
        """Choose the streams that are copied beside the restored one."""
        if self.streams == "video" or source.names or source.is_pipe:
            return None
        streams, notes = stream_copy.choose_streams(
            Path("pipe.y4m") if is_pipe(self.output) else self.output,
            stream_copy.StreamCopy(
                self.input, source.video_stream, source.origin, self._is_cut
            ),
        )
        for note in notes:
            say(f"note: {note}")
        return streams if is_video and not is_pipe(self.output) else None
