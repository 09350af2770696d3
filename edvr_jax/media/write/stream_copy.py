"""Copy the streams of a video file that are not its picture, as they are.

Sound, subtitles, covers, attachments, chapters and metadata: packet by packet, nothing
is decoded.
"""

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

# What describes the old file, not the film.
_STALE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("duration", "handler_name", "vendor_id", "timecode", "alpha_mode"),
)
_STALE_PREFIXES = ("_statistics", "bps", "number_of_", "duration")
_NEEDED = ("audio", "subtitle")
# QuickTime numbers languages, and FFmpeg knows some of the numbers by older codes only.
_MOV_LANGUAGES = {
    **{"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi"},
    **{"sqi": "alb", "hye": "arm", "kat": "geo", "bod": "tib", "mya": "bur"},
    **{
        "nob": "nor",
        "nno": "nor",
        "msa": "may",
        "fas": "per",
        "swe": "sve",
        "mkd": "mac",
        "cym": "wel",
    },
    **{"eus": "baq", "fre": "fra", "rum": "ron", "cze": "ces", "slo": "slk"},
}

# Formats that hold nothing but a picture.
_SILENT = (".gif", ".y4m")
_WITH_CHAPTERS = ("mp4", "mov", "matroska", "webm")
# Pictures that are covers: FFmpeg's name of the codec, file name and type in Matroska.
_IMAGES = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "gif": ("cover.gif", "image/gif"),
    "tiff": ("cover.tif", "image/tiff"),
}
_COVERS = {"mp4": ("mjpeg", "png"), "matroska": tuple(_IMAGES)}


@dataclasses.dataclass(frozen=True)
class StreamCopy:
    """A file whose other streams are copied.

    Attributes:
        path: A video file.
        restored: Number of the stream that is restored; None is the usual one.
        origin: Seconds on its clock at which the output begins.
        is_cut: Only what is shown with the restored frames is copied, not all.
        streams: Numbers of the streams to copy.
        any_codec: One of them must be written by ``open_output(any_codec=True)``.
    """

    path: Path
    restored: int | None = None
    origin: Fraction = Fraction(0)
    is_cut: bool = False
    streams: tuple[int, ...] = ()
    any_codec: bool = False


def choose_streams(path: Path, original: StreamCopy) -> tuple[StreamCopy, list[str]]:
    """Find out what the output can hold, before hours of work.

    Args:
        path: The output.
        original: The video file.

    Returns:
        It with the streams that can be copied, and a note for all else.

    Raises:
        InputError: if sound or subtitles do not fit into a format that has some.
    """
    suffix, chosen, notes = path.suffix.lower(), [], []
    container, any_codec = CONTAINERS[suffix], False
    left_out = f"cannot be stored in {suffix} and is left out"
    opened = decode.open_container(original.path, index=original.restored)
    with opened as (source, restored):
        for stream in source.streams:
            if stream is restored or _is_chapter_text(stream):
                continue
            if _fits(stream, suffix):
                chosen.append(stream.index)
                is_known = _is_cover(stream) or _writes_header(stream, container)
                any_codec |= not is_known
                continue
            kind = "cover" if _is_cover(stream) else stream.type
            name = f"{kind} stream {stream.index} ({_codec_name(stream)})"
            if stream.type in _NEEDED and suffix not in _SILENT:
                raise InputError(
                    f"{path}: {name} of {original.path} cannot be stored in "
                    f"{suffix}; {_advise(source.streams)}leave all but the "
                    "picture out with --streams video"
                )
            notes.append(f"{name} {left_out}")
        muxer = container.muxer
        if source.chapters() and (any_codec or muxer not in _WITH_CHAPTERS):
            beside = f"cannot be stored in {suffix} beside this sound"
            notes.append(f"the list of chapters {beside if any_codec else left_out}")
        if muxer == "mp4" and any(_is_cover(source.streams[i]) for i in chosen):
            lost = _tags_beside_cover(source.metadata)
            notes += [f"metadata {tag} {left_out} for the cover" for tag in lost]
    return (
        dataclasses.replace(original, streams=tuple(chosen), any_codec=any_codec),
        notes,
    )


def leave_out_all(source_path: Path) -> list[str]:
    """Return a note of what an output leaves out that holds the picture alone.

    Args:
        source_path: The video file.
    """
    with decode.open_container(source_path) as (original, _):
        streams = original.streams
        kinds = {"sound": streams.audio, "subtitles": streams.subtitles}
        found = [kind for kind, members in kinds.items() if members]
    if not found:
        return []
    return [f"the output is without the {' and '.join(found)} of {source_path}"]


def _advise(streams: Iterable[Stream]) -> str:
    """Name all formats that store the sound and subtitles."""
    needed = [stream for stream in streams if stream.type in _NEEDED]
    first_names = {x: suffix for suffix, x in reversed(CONTAINERS.items())}
    fitting = [
        suffix
        for suffix in reversed(first_names.values())
        if all(_fits(stream, suffix) for stream in needed)
    ]
    return f"write {' or '.join(fitting)}, or " if fitting else ""


def _is_chapter_text(stream: Stream) -> bool:
    """Tell the names of chapters in MP4, of which FFmpeg reads no packet."""
    return stream.type == "data" and stream.discard == Discard.all


def _is_cover(stream: Stream) -> bool:
    """Tell covers from the pictures of chapters, which FFmpeg cannot write."""
    kinds = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.disposition & kinds == Disposition.attached_pic


def _fits(stream: Stream, suffix: str) -> bool:
    """Report whether a format stores this stream beside a video stream."""
    container = CONTAINERS[suffix]
    if suffix in _SILENT:
        return False
    if stream.disposition & Disposition.attached_pic:
        codecs = _COVERS.get(container.muxer, ())
        return _is_cover(stream) and _codec_name(stream) in codecs
    if stream.type == "data" and stream.name is None:
        return False  # unknown to FFmpeg, so writing its packets would fail
    if _writes_header(stream, container):
        return True
    # MOV writes others, too, but so that nothing reads them.
    return container.muxer == "matroska" and _writes_header(
        stream, container, any_codec=True
    )


def _writes_header(
    stream: Stream, container: Container, *, any_codec: bool = False
) -> bool:
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


def _tags_beside_cover(metadata: dict[str, str]) -> list[str]:
    """Name the tags that an MP4 file with a cover does not hold."""
    data, tags = io.BytesIO(), _lasting(metadata)
    container = dataclasses.replace(CONTAINERS[".mp4"], options=())
    with open_output(data, container) as output:
        output.add_mux_stream("mjpeg", width=64, height=64, time_base=Fraction(1, 25))
        output.metadata.update(tags)
        output.start_encoding()
    data.seek(0)
    with av.open(data) as written:
        kept = {key.lower() for key in written.metadata}
    return sorted(key for key in tags if key.lower() not in kept)


def add_copies(
    output: OutputContainer,
    restored: VideoStream,
    opened: tuple[InputContainer, VideoStream],
    original: StreamCopy,
    seconds: Fraction,
    muxer: str,
) -> Iterator[tuple[Fraction, Packet]]:
    """Add the other streams, chapters and metadata to a file.

    Args:
        output: The file; its header is not written yet.
        restored: Its picture, which gets the metadata of the original's.
        opened: The original, and the stream that was restored.
        original: What is copied.
        seconds: How long the restored frames are shown.
        muxer: FFmpeg's name of the file's format.

    Returns:
        The packets to write, each with its time in seconds. To read them raises an
        InputError if the original is damaged.
    """
    container, video_stream = opened
    output.metadata.update(_lasting(container.metadata))
    restored.metadata.update(_stream_tags(muxer, video_stream))
    restored.disposition = video_stream.disposition | Disposition.default
    first = original.origin
    span = first, first + seconds if original.is_cut else None
    if muxer in _WITH_CHAPTERS and not original.any_codec:
        _copy_chapters(output, container, span)
    chosen = [s for s in container.streams if s.index in original.streams]
    indices = [stream.index for stream in chosen if _is_cover(stream)]
    images = _read_covers(original.path, indices) if indices else {}
    covers, copies = [], {}
    for stream in chosen:
        if stream.index in images:
            covers += _add_cover(output, muxer, stream, images[stream.index])
            continue
        copy = output.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(_stream_tags(muxer, stream))
        copy.disposition = stream.disposition
        if stream.type == "video":  # else players would not show the restored one
            copy.disposition &= ~Disposition.default
        copies[stream.index] = StreamCopier(original.path, stream, copy, span)
    packets = copy_packets(original.path, opened, copies, span)
    return itertools.chain(((Fraction(0), packet) for packet in covers), packets)


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_PREFIXES)
    }


def _stream_tags(muxer: str, stream: Stream) -> dict[str, str]:
    """Return a stream's tags by the names and values that the output's format takes."""
    tags = _lasting(stream.metadata)
    if "mp4" in stream.container.format.name and "name" in tags:
        tags.setdefault("title", tags.pop("name"))  # as FFmpeg's reader calls it
    if muxer == "mov" and "language" in tags:
        tags["language"] = _MOV_LANGUAGES.get(tags["language"], tags["language"])
    return tags


def _copy_chapters(
    output: OutputContainer, container: InputContainer, span: Span
) -> None:
    chapters = []
    first, last = span
    for chapter in container.chapters():
        unit = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * unit, chapter["end"] * unit
        if end <= first or (last is not None and start >= last):
            continue
        end = end if last is None else min(end, last)
        chapter["start"] = round((max(start, first) - first) / unit)
        chapter["end"] = round((end - first) / unit)
        chapters.append({**chapter, "time_base": unit})
    output.set_chapters(chapters)


def _read_covers(path: Path, indices: list[int]) -> dict[int, bytes]:
    """Return the images of some streams, which FFmpeg gives before all else."""
    with decode.open_container(path) as (container, _):
        packets = read_packets(path, container, [container.streams[i] for i in indices])
        covers = itertools.islice(packets, len(indices))
        return {packet.stream.index: bytes(packet) for packet, _ in covers}


def _add_cover(
    output: OutputContainer, muxer: str, stream: Stream, image: bytes
) -> list[Packet]:
    """Add a cover; return the packets that it needs."""
    tags = _lasting(stream.metadata)
    if muxer == "matroska":
        name, kind = _IMAGES[_codec_name(stream)]
        name, kind = tags.get("filename", name), tags.get("mimetype", kind)
        output.add_attachment(name, kind, image).metadata.update(tags)
        return []
    # MP4 stores either covers or tags of any name.
    flags = output.container_options.get("movflags", "")
    output.container_options["movflags"] = f"{flags}-use_metadata_tags"
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    packet = Packet(image)
    packet.pts = packet.dts = 0
    packet.stream, packet.is_keyframe = copy, True
    return [packet]
