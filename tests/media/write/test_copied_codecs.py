"""Which sound and subtitles a format stores, by the codec."""

import av
import numpy as np
import pytest

from edvr_jax.media.write.stream_copy import StreamCopy, choose_streams
from tests.copies import contents, copy_video, read, with_lines, write_copy
from tests.messages import refused


def test_advice_names_formats_that_hold_everything(tmp_path, video):
    with refused(".webm", ".mp4 or .mov or .mkv", "--streams video"):
        choose_streams(tmp_path / "out.webm", StreamCopy(video))
    words = with_lines("mov_text", [(0, 500, b"\0\1a")])
    source = copy_video(video, tmp_path / "in.mp4", words)
    for suffix in ("mkv", "webm"):
        with refused(f".{suffix}", " .mp4 or .mov,", "--streams video"):
            choose_streams(tmp_path / f"out.{suffix}", StreamCopy(source))


# Codecs of the kind: what FFmpeg's writer of Matroska stores without a name in its
# list, that is all that Windows numbers: WMA, ADPCM of many makers, A-law, mu-law,
# GSM, G.722. MOV writes WMA, too, but nothing reads it there.
@pytest.mark.parametrize(
    "codec", ["wmav2", "wmav1", "adpcm_ms", "adpcm_yamaha", "pcm_mulaw", "pcm_alaw"]
)
def test_sound_of_codecs_that_are_in_no_list(tmp_path, codec):
    source, target = tmp_path / "in.avi", tmp_path / "it's [1] a|b \\ 50%.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream(codec, 44100, layout="mono")
        stream.bit_rate = 64_000
        picture = container.add_stream("mpeg4", 25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            image = np.full((48, 64, 3), index, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image)))
        tone = (8000 * np.sin(np.arange(44100) / 10)).astype(np.int16)[None]
        resampler = av.AudioResampler(stream.format, "mono", 44100, stream.frame_size)
        frame = av.AudioFrame.from_ndarray(tone, "s16", "mono")
        frame.sample_rate = 44100
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(resampled))
        container.mux([*picture.encode(None), *stream.encode(None)])
    assert write_copy(source, target) == []
    assert contents(read(target, "audio")[0]) == contents(read(source, "audio")[0])
    with av.open(str(target)) as container:
        num_samples = sum(frame.samples for frame in container.decode(audio=0))
    assert 40_000 < num_samples < 48_000
    with refused(".mp4", codec, ".mkv, or", "--streams video"):
        choose_streams(tmp_path / "out.mp4", StreamCopy(source))


def test_chapters_beside_sound_of_such_a_codec(tmp_path, video):
    source, target = tmp_path / "in.mov", tmp_path / "out.mkv"
    with av.open(str(video)) as other, av.open(str(source), "w") as output:
        copy = output.add_stream_from_template(other.streams.video[0])
        output.set_chapters(other.chapters())
        sound = output.add_stream("pcm_mulaw", 8000, layout="mono")
        for packet in other.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux_one(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        output.mux([*sound.encode(frame), *sound.encode(None)])
    assert write_copy(source, target) == [
        "chapters cannot be stored in .mkv beside this sound"
    ]
    assert len(read(target, "audio")[0]) > 0
