"""Videos as people have them, made by PyAV."""

import struct
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np

RATE = 48000


def moving_bars(count, height=48, width=64):
    """Frames whose content moves and tells them apart, [count, H, W, 3] uint8."""
    y, x, t = np.meshgrid(
        np.arange(height), np.arange(width), np.arange(count), indexing="ij"
    )
    rgb = [60 + 2 * ((x + 3 * t) % 64), 40 + 3 * (y % 48), 90 + 4 * ((x - t) % 16)]
    return np.moveaxis(np.stack(rgb, -1), 2, 0).astype(np.uint8)


def write_video(
    path,
    frames,
    *,
    times=None,
    clock=1000,
    rate=None,
    codec="libx264",
    options=None,
    pix_fmt="yuv420p",
    rotation=0,
    display_matrix=None,
    with_sound=True,
    sound_title=None,
    subtitles=False,
    colors=None,
):
    """Write a video with sound, a title and, if it is longer than 0.4 s, chapters.

    Args:
        path: The file.
        frames: [T, H, W, 3], uint8, or uint16 for more than 8 bits.
        times: When each is shown, in thousandths of a second; None is 25 per second.
        clock: Units of the file's times in a second.
        rate: Frames per second, exactly, instead of times and clock.
        codec: Encoder.
        options: The encoder's; None is for high quality.
        pix_fmt: Pixel format.
        rotation: Degrees that a player turns the picture.
        display_matrix: Instead, (a, b, c, d): it shows (x, y) at (ax + cy, bx + dy).
        with_sound: Add a tone as long as the picture.
        sound_title: Name of its track.
        subtitles: Add a subtitle (Matroska).
        colors: FFmpeg's numbers of matrix, range, primaries and transfer.
    """
    times = [40 * i for i in range(len(frames))] if times is None else times
    ticks = range(len(frames)) if rate else [time * clock // 1000 for time in times]
    unit = 1 / Fraction(rate or clock)
    layout = "rgb48le" if frames.dtype == np.uint16 else "rgb24"
    with av.open(str(path), "w") as container:
        options = _quality(codec) if options is None else options
        picture = container.add_stream(codec, rate or 25, options=options)
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = pix_fmt
        context = picture.codec_context
        context.time_base = unit
        matrix = {}
        if colors is not None:
            context.colorspace, context.color_range = colors[:2]
            context.color_primaries, context.color_trc = colors[2:]
            matrix = {"dst_colorspace": colors[0], "dst_color_range": colors[1]}
        if rotation:
            picture.set_display_rotation(-rotation)
        if display_matrix is not None:
            a, b, c, d = (number << 16 for number in display_matrix)
            picture.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        sound = container.add_stream("aac", RATE, layout="mono") if with_sound else None
        text = _subtitles(path) if subtitles else None
        words = text and container.add_stream_from_template(text.streams[0])
        container.metadata["title"] = "My video"
        if sound is not None:
            sound.metadata["language"] = "deu"
            if sound_title:
                sound.metadata["title"] = sound_title
        with_chapters = container.format.name in ("mp4", "mov", "matroska")
        if with_chapters and len(frames) > 10:
            container.set_chapters([chapter(0, 400), chapter(400, 40 * len(frames))])
        for tick, image in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), layout)
            frame = frame.reformat(format=pix_fmt, **matrix)
            frame.pts, frame.time_base = tick, unit
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None:
            _write_tone(container, sound, times[-1] + 40)
        if text is not None:
            for packet in text.demux():
                if packet.size:
                    packet.stream = words
                    container.mux_one(packet)


def _subtitles(path):
    file = path.with_suffix(".srt")
    file.write_text("1\n00:00:00,100 --> 00:00:00,400\nHello\n")
    return av.open(str(file))


def _quality(codec):
    return {
        "libx264": {"crf": "1"},
        "libx265": {"crf": "1", "x265-params": "log-level=error"},
    }.get(codec, {})


def chapter(start, end):
    """A chapter from and to a time in thousandths of a second."""
    return {
        "id": start,
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": f"from {start}"},
    }


def _write_tone(container, stream, milliseconds):
    for start in range(0, milliseconds * RATE // 1000, 1024):
        wave = np.sin(np.arange(start, start + 1024) * 0.06).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, start
        frame.time_base = Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def blank_packets(path, indices):
    """Overwrite some packets of a video's picture with zeros."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
    data = bytearray(path.read_bytes())
    # MPEG-TS repeats a header every 188 bytes; that of a packet is in the first 40.
    header = 40 if path.suffix == ".ts" else 0
    for index in indices:
        begin, size = packets[index].pos, packets[index].size
        for position in range(begin, begin + size):
            if position % 188 >= header:
                data[position] = 0
    path.write_bytes(data)


def damage_packet(path, index):
    """Change some bytes of a packet of a video's picture, so that it can be guessed."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    start = packets[index].pos + packets[index].size * 4 // 5
    data[start : start + 8] = (byte ^ 0x5A for byte in data[start : start + 8])
    path.write_bytes(data)


def cut(path, target, start, seconds, *, origin=0):
    """Cut a video without encoding, as ``ffmpeg -ss START -i path -t SECONDS -c copy``.

    Packets begin with the key frame before the start, whose time becomes 0: those
    before it have negative times, which MP4 and QuickTime hide by an edit list and
    Matroska shifts.

    Args:
        path: The video.
        target: The cut.
        start: Seconds.
        seconds: The cut's length.
        origin: Seconds that are added to all times.

    Returns:
        Number of the frames that a player shows.
    """
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        picture = source.streams.video[0]
        source.seek(int(start / picture.time_base), stream=picture)
        streams = [picture, *source.streams.audio]
        copies = {s: output.add_stream_from_template(s) for s in streams}
        times, is_begun = [], False
        for packet in source.demux(streams):
            stream = packet.stream
            is_begun |= stream is picture and packet.is_keyframe
            if not packet.size or not is_begun:
                continue
            shift = round((start - Fraction(origin)) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.dts * packet.time_base >= origin + seconds:
                continue
            if stream is picture:
                times.append(packet.pts)
            packet.stream = copies[stream]
            output.mux(packet)
    is_edited = target.suffix in (".mp4", ".mov") and not origin
    return sum(time >= 0 for time in times) if is_edited else len(times)


def drop_last_chunks(path, count):
    """Empty the last frames of an AVI, as a recorder does that has no new picture."""
    data = bytearray(path.read_bytes())
    movie, entries = data.index(b"movi"), len(data) - 16 * count
    for entry in range(entries, len(data), 16):
        offset, size = struct.unpack_from("<II", data, entry + 8)
        struct.pack_into("<I", data, entry + 12, 0)
        chunk = movie + offset
        struct.pack_into("<I4sI", data, chunk + 4, 0, b"JUNK", size - 8)
    path.write_bytes(data)


def empty_packets(path, target, indices):
    """Copy a video with some packets empty: they repeat the frame before (NUT)."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            chosen = av.Packet(b"") if index in indices else packet
            chosen.pts, chosen.dts = packet.pts, packet.dts
            chosen.time_base, chosen.duration = packet.time_base, packet.duration
            chosen.stream = stream
            output.mux(chosen)


def write_folder(folder, frames, names=None):
    """Write frames, RGB, as the images of a new folder, which is returned."""
    folder.mkdir()
    for index, frame in enumerate(frames):
        name = names[index] if names else f"{index}.png"
        cv2.imwrite(str(folder / name), frame[..., ::-1])
    return folder


def describe(path):
    """Times and size of the frames, packets of other streams, chapters, tags."""
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        found = {
            "title": container.metadata.get("title"),
            "chapters": [
                (
                    float(c["start"] * c["time_base"]),
                    float(c["end"] * c["time_base"]),
                    c["metadata"].get("title"),
                )
                for c in container.chapters()
            ],
            "languages": [s.language for s in container.streams.audio],
            "pix_fmt": picture.codec_context.pix_fmt,
            "codec": picture.codec_context.name,
            "durations": {
                s.type: float(s.duration * s.time_base)
                for s in container.streams
                if s.duration and s.type in ("video", "audio")
            },
        }
        frames = list(container.decode(picture))
        first = frames[0]
        found["times"] = [round(float(frame.time), 3) for frame in frames]
        found["size"] = (first.height, first.width)
        found["rotation"] = first.rotation
        found["colors"] = tuple(
            int(x)
            for x in (
                first.colorspace,
                first.color_range,
                first.color_primaries,
                first.color_trc,
            )
        )
    for kind in ("audio", "subtitles"):
        with av.open(str(path)) as container:
            streams = getattr(container.streams, kind)
            found[kind] = [
                bytes(p) for p in container.demux(streams) if streams and p.size
            ]
    return found


def start_edvr(*arguments, prelude="", **options):
    """Start the command in a process of its own.

    Args:
        *arguments: Of the command.
        prelude: Python to run before it.
        **options: Of subprocess.Popen.
    """
    program = f"{prelude}\nfrom edvr_jax.cli import main\nraise SystemExit(main())"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, **options)
