"""REDS: 240 training and 30 validation clips of 100 frames, 1280x720, four tracks.

Get the archives from https://seungjunnah.github.io/Datasets/reds.html (for a track:
``*_sharp`` and its degraded form, training and validation) and unpack them into one
folder, as ``train/train_sharp/000/00000000.png`` or ``train_sharp/000/...``.

The names are those of the field: validation clip ``k`` is ``240 + k``, which is also
its folder if you have regrouped the archives. REDS4, the usual test set of
super-resolution, are four training clips; the official validation clips are 240 to
269.

Source: Nah et al., NTIRE 2019 Challenge on Video Deblurring and Super-Resolution.
"""

from pathlib import Path

from edvr_jax.config import REDS4, Track
from edvr_jax.data.datasets.layout import GT, Layout, Part, check_clips, first_folder
from edvr_jax.errors import InputError

NUM_TRAIN, NUM_VAL, NUM_FRAMES = 240, 30, 100
OFFICIAL_VAL = tuple(f"{NUM_TRAIN + k:03d}" for k in range(NUM_VAL))

# Stream -> name of its archives after "train_" and "val_". REDS4 alone is often kept
# under names without them.
ARCHIVES = {
    GT: "sharp",
    "sharp_bicubic_x4": "sharp_bicubic/X4",
    "blur_bicubic_x4": "blur_bicubic/X4",
    "blur": "blur",
    "blur_comp": "blur_comp",
}
LQ_STREAMS: dict[Track, str] = {
    "sr": "sharp_bicubic_x4",
    "sr_blur": "blur_bicubic_x4",
    "deblur": "blur",
    "deblur_comp": "blur_comp",
}


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the clips of every archive that is there.

    Args:
        root: Folder of the unpacked archives.
        part: "test" takes REDS4 alone.
        is_partial: Leave out incomplete clips, with a warning that counts them.

    Returns:
        The clips; those to train on are all but REDS4.

    Raises:
        InputError: naming what is missing.
    """
    streams = {}
    for stream, archive in ARCHIVES.items():
        places = [f"train/train_{archive}", f"train_{archive}"]
        if part == "test":
            places += ["GT"] if stream == GT else [archive, archive.removesuffix("/X4")]
        train = first_folder(root, places)
        if train is None:
            continue
        if part == "test":
            clips = {name: train / name for name in REDS4}
        else:
            clips = {f"{k:03d}": train / f"{k:03d}" for k in range(NUM_TRAIN)}
            clips |= _val_clips(root, archive, train)
        num_frames = dict.fromkeys(clips, NUM_FRAMES)
        streams[stream] = check_clips(clips, num_frames, is_partial=is_partial)
    if GT not in streams:
        raise InputError(
            f"{root}: there is no folder train/train_sharp or train_sharp; unpack "
            "train_sharp.zip of REDS there"
        )
    names = tuple(name for name in streams[GT] if name not in REDS4)
    return Layout(streams, LQ_STREAMS, train=names)


def _val_clips(root: Path, archive: str, train: Path) -> dict[str, Path]:
    """Name the validation clips, if they are there: regrouped or on their own."""
    if (train / OFFICIAL_VAL[0]).is_dir():
        return {name: train / name for name in OFFICIAL_VAL}
    val = first_folder(root, [f"val/val_{archive}", f"val_{archive}"])
    if val is None:
        return {}
    return {name: val / f"{k:03d}" for k, name in enumerate(OFFICIAL_VAL)}
