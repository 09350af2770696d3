"""Copies of videos with all their streams, and what is in them."""

import dataclasses
from fractions import Fraction

import av

from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode
from edvr_jax.media.write.mux import write_video
from edvr_jax.media.write.segments import SegmentedVideo
from edvr_jax.media.write.stream_copy import StreamCopy, choose_streams
from tests import videos

FPS = Fraction(25)
MS = Fraction(1, 1000)


def write_copy(source, target, seconds=1, **changes):
    """Write a video with the other streams of a source; return the notes."""
    copied, notes = choose_streams(target, StreamCopy(source))
    copied = dataclasses.replace(copied, **changes)
    request = encode.EncodingRequest(target, (48, 64), FPS, 1 / FPS)
    encoding = encode.choose_encoding(request)
    work = target.with_name(f"{target.name}.parts")
    work.mkdir()
    segments = SegmentedVideo(work, target, encoding)
    count = round(seconds * FPS)
    for time, image in enumerate(videos.moving_bars(count)):
        segments.write(image, time=time)
    segments.finish()
    timeline = Timeline(range(count), count, 1 / FPS, FPS)
    write_video(target, target, segments, timeline, copied)
    return notes


def read(path, kind):
    """Packets of each stream of a kind: time in seconds, seconds, content."""
    with av.open(str(path)) as container:
        found = {s.index: [] for s in container.streams if s.type == kind}
        for packet in container.demux(list(container.streams)):
            if packet.size and packet.stream.index in found:
                time = None if packet.pts is None else packet.pts * packet.time_base
                length = (packet.duration or 0) * packet.time_base
                found[packet.stream.index].append((time, length, bytes(packet)))
    return list(found.values())


def contents(packets):
    """Leave the times out."""
    return [content for _, _, content in packets]


def copy_video(source, target, add=None, **options):
    """Copy a video, with a stream and packets in milliseconds that add() gives."""
    with (
        av.open(str(source)) as video,
        av.open(str(target), "w", container_options=options) as output,
    ):
        streams = [s for s in video.streams if s.type in ("video", "audio")]
        copies = {s.index: output.add_stream_from_template(s) for s in streams}
        output.metadata.update(video.metadata)
        stream, packets = (None, []) if add is None else add(output)
        output.start_encoding()
        timed = []
        for time, duration, content in packets:
            packet = av.Packet(content)
            packet.pts, packet.dts, packet.duration = time, time, duration
            packet.stream, packet.time_base = stream, MS
            timed.append((time / 1000, packet))
        for packet in video.demux(streams):
            if packet.size:
                timed.append(((packet.dts or 0) * packet.time_base, packet))
                packet.stream = copies[packet.stream.index]
        for _, packet in sorted(timed, key=lambda item: item[0]):
            output.mux_one(packet)
    return target


def with_lines(codec, lines):
    """A function for copy_video() that adds subtitles."""
    return lambda output: (output.add_mux_stream(codec, time_base=MS), lines)
