"""Copy what a video file holds beside the stream that is restored.

Sound, subtitles, other video streams, attached pictures, attachments, chapters and
metadata are copied packet by packet; nothing is decoded.
"""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import decode
from edvr_jax.media.write.containers import CONTAINERS, Container, open_output
from edvr_jax.media.write.packets import Span, StreamCopier, copy_packets, read_packets

# Tags that describe the old file, not the content.
_STALE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("duration", "handler_name", "vendor_id", "timecode", "alpha_mode"),
)
_STALE_PREFIXES = ("_statistics", "bps", "number_of_", "duration")
_NEEDED = ("audio", "subtitle")
# Attached pictures by FFmpeg's name of the codec: file name and type in Matroska.
_IMAGES = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "gif": ("cover.gif", "image/gif"),
    "tiff": ("cover.tif", "image/tiff"),
}
# Tags that MP4 stores beside attached pictures.
_MP4_TAGS = (
    *("title", "artist", "album_artist", "composer", "album", "date", "comment"),
    *("genre", "copyright", "grouping", "lyrics", "description", "synopsis", "show"),
    *("episode_id", "network", "keywords", "track", "disc", "compilation"),
)
_PICTURE_CODECS = {"mp4": ("mjpeg", "png"), "matroska": tuple(_IMAGES)}


@dataclasses.dataclass(frozen=True)
class StreamCopy:
    """A file whose other streams are copied.

    Attributes:
        path: The video file.
        restored: Number of the stream that is restored; None is the usual one.
        origin: Seconds on the file's clock at which the output begins.
        is_cut: Copy only what is within the times of the restored frames.
        streams: Numbers of the streams to copy.
        any_codec: One of them needs ``open_output(any_codec=True)``.
    """

    path: Path
    restored: int | None = None
    origin: Fraction = Fraction(0)
    is_cut: bool = False
    streams: tuple[int, ...] = ()
    any_codec: bool = False


def choose_streams(path: Path, copied: StreamCopy) -> tuple[StreamCopy, list[str]]:
    """Choose the streams that the output can store, before hours of work.

    Args:
        path: The output, a video or a folder of images.
        copied: The video file.

    Returns:
        The file with the numbers of these streams, and a note for all that is left out.

    Raises:
        InputError: if sound or subtitles do not fit into a format that has some.
    """
    container = CONTAINERS.get(path.suffix.lower())
    place = "a folder of images" if container is None else path.suffix.lower()
    video_only = container is None or container.video_only
    chosen, notes, any_codec = [], [], False
    opened = decode.open_container(copied.path, index=copied.restored)
    with opened as (source, restored):
        for stream in source.streams:
            if stream is restored or _is_chapter_text(stream):
                continue
            is_fitting = _fits(stream, container)
            if not is_fitting and _fits(stream, container, any_codec=True):
                is_fitting = any_codec = True
            if is_fitting:
                chosen.append(stream.index)
                continue
            kind = "attached picture" if _is_attached_picture(stream) else stream.type
            name = f"{kind} stream {stream.index} ({_codec_name(stream)})"
            if stream.type in _NEEDED and not video_only:
                raise InputError(
                    f"{path}: {name} of {copied.path} cannot be stored in {place}; "
                    f"{_advise(source.streams)}leave all but the restored stream out "
                    "with --streams video"
                )
            notes.append(f"{name} cannot be stored in {place} and is left out")
        copied = dataclasses.replace(copied, streams=tuple(chosen), any_codec=any_codec)
        if source.chapters() and (any_codec or video_only):
            beside = " beside this sound" if any_codec else ""
            notes.append(f"chapters cannot be stored in {place}{beside}")
        if container is not None:
            notes += _list_losses(container, copied, source)
    return copied, notes


def _advise(streams: Iterable[Stream]) -> str:
    """Name the formats that store all sound and subtitles."""
    needed = [stream for stream in streams if stream.type in _NEEDED]
    fitting = [
        suffix
        for suffix, container in CONTAINERS.items()
        if suffix != ".m4v"  # the same as .mp4
        and all(
            _fits(stream, container) or _fits(stream, container, any_codec=True)
            for stream in needed
        )
    ]
    return f"write {' or '.join(fitting)}, or " if fitting else ""


def _list_losses(
    container: Container, copied: StreamCopy, source: InputContainer
) -> list[str]:
    """Note what FFmpeg leaves out of what is copied."""
    notes, streams = [], [source.streams[index] for index in copied.streams]
    tags = sorted(
        tag for tag in _lasting(source.metadata) if tag.lower() not in _MP4_TAGS
    )
    if container.muxer == "mp4" and tags and any(map(_is_attached_picture, streams)):
        notes.append(
            f"metadata {', '.join(tags)} cannot be stored in .mp4 beside an attached "
            "picture and is left out"
        )
    languages = {stream.metadata.get("language", "und") for stream in streams}
    languages -= {"und", "eng"}
    if container.muxer == "mov" and languages:
        notes.append(
            ".mov has no number for some languages of streams, so that "
            f"{', '.join(sorted(languages))} may be left out; .mp4 and .mkv keep them"
        )
    begins_later = copied.origin * av.time_base > (source.start_time or 0)
    has_text = any(stream.type == "subtitle" for stream in streams)
    if copied.is_cut and begins_later and has_text:
        notes.append("subtitles that begin before the first frame are left out")
    return notes


def _is_chapter_text(stream: Stream) -> bool:
    """Report whether it is the chapters' names in MP4, whose packets are not read."""
    return stream.type == "data" and stream.discard == Discard.all


def _is_attached_picture(stream: Stream) -> bool:
    """Report whether it is one; the thumbnails of chapters cannot be written."""
    kinds = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.disposition & kinds == Disposition.attached_pic


def _fits(
    stream: Stream, container: Container | None, *, any_codec: bool = False
) -> bool:
    """Report whether a format stores this stream beside a video stream.

    With ``any_codec``, whether it does so by ``open_output(any_codec=True)``.
    """
    if container is None or container.video_only:
        return False
    if stream.disposition & Disposition.attached_pic:
        codecs = _PICTURE_CODECS.get(container.muxer, ())
        return _is_attached_picture(stream) and _codec_name(stream) in codecs
    if stream.type == "data" and stream.name is None:
        return False  # unknown to FFmpeg, so writing its packets would fail
    # MOV writes any codec, too, but in a way that no program reads.
    if any_codec and container.muxer != "matroska":
        return False
    return _writes_header(stream, container, any_codec=any_codec)


def _writes_header(stream: Stream, container: Container, *, any_codec: bool) -> bool:
    target = Path(os.devnull) if any_codec else io.BytesIO()
    container = dataclasses.replace(container, options=())
    try:
        with open_output(target, container, any_codec=any_codec) as output:
            output.add_mux_stream("mjpeg", width=64, height=64)
            output.add_stream_from_template(stream, opaque=True)
            output.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _codec_name(stream: Stream) -> str:
    context = stream.codec_context
    if context is not None:
        return context.name
    return getattr(stream, "name", None) or "unknown"  # PyAV raises for some


@contextlib.contextmanager
def add_copies(
    output: OutputContainer,
    restored: VideoStream,
    copied: StreamCopy,
    seconds: Fraction,
    container: Container,
) -> Iterator[Iterator[Packet]]:
    """Add the other streams, chapters and metadata to a file.

    Args:
        output: The file; its header is not written yet.
        restored: Its restored stream, which gets the metadata of the source's.
        copied: What is copied.
        seconds: How long the restored frames are shown.
        container: The file's format.

    Yields:
        The packets to write. Reading them raises an InputError if the source is
        damaged.
    """
    with decode.open_container(copied.path, index=copied.restored) as opened:
        source, video_stream = opened
        output.metadata.update(_lasting(source.metadata))
        restored.metadata.update(_stream_tags(video_stream))
        restored.disposition = video_stream.disposition | Disposition.default
        first = copied.origin
        span = first, first + seconds if copied.is_cut else None
        if not (copied.any_codec or container.video_only):
            _copy_chapters(output, source, span)
        chosen = [s for s in source.streams if s.index in copied.streams]
        pictures, copiers = [], {}
        images = _read_pictures(copied.path, chosen)
        for stream in chosen:
            if stream.index in images:
                image = images[stream.index]
                pictures += _add_picture(output, container, stream, image)
                continue
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(_stream_tags(stream))
            copy.disposition = stream.disposition
            if stream.type == "video":  # else players would not show the restored one
                copy.disposition &= ~Disposition.default
            copiers[stream.index] = StreamCopier(copied.path, stream, copy, span)
        packets = copy_packets(copied.path, opened, copiers, span)
        yield itertools.chain(pictures, packets)


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_PREFIXES)
    }


def _stream_tags(stream: Stream) -> dict[str, str]:
    tags = _lasting(stream.metadata)
    if "mp4" in stream.container.format.name and "name" in tags:
        tags.setdefault("title", tags.pop("name"))  # FFmpeg's reader renames titles
    return tags


def _copy_chapters(output: OutputContainer, source: InputContainer, span: Span) -> None:
    chapters = []
    first, last = span
    for chapter in source.chapters():
        unit = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * unit, chapter["end"] * unit
        if end <= first or (last is not None and start >= last):
            continue
        end = end if last is None else min(end, last)
        chapter["start"] = round((max(start, first) - first) / unit)
        chapter["end"] = round((end - first) / unit)
        chapters.append({**chapter, "time_base": unit})
    output.set_chapters(chapters)


def _read_pictures(path: Path, streams: list[Stream]) -> dict[int, bytes]:
    """Return the attached pictures, which FFmpeg reads before all other packets."""
    indices = [stream.index for stream in streams if _is_attached_picture(stream)]
    if not indices:
        return {}
    with decode.open_container(path) as (container, _):
        packets = read_packets(path, container, [container.streams[i] for i in indices])
        pictures = itertools.islice(packets, len(indices))
        return {packet.stream.index: bytes(packet) for packet, _ in pictures}


def _add_picture(
    output: OutputContainer, container: Container, stream: Stream, image: bytes
) -> list[Packet]:
    """Add an attached picture; return the packets to write for it."""
    tags = _lasting(stream.metadata)
    if container.muxer == "matroska":
        name, kind = _IMAGES[_codec_name(stream)]
        name, kind = tags.get("filename", name), tags.get("mimetype", kind)
        output.add_attachment(name, kind, image).metadata.update(tags)
        return []
    # MP4 stores either attached pictures or tags of any name.
    flags = output.container_options.get("movflags", "")
    output.container_options["movflags"] = f"{flags}-use_metadata_tags"
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    packet = Packet(image)
    packet.pts = packet.dts = 0
    packet.stream, packet.is_keyframe = copy, True
    return [packet]
