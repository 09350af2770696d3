"""Make clips of text and fine patterns, which few clips of people and plants show.

    python -m tools.make_text_clips --fonts /usr/share/fonts/truetype --clips CLIPS

Each clip, CLIPS/text_00 and on, shows a poster at which a camera looks that pans, turns
and comes closer: tables of numbers, lines of text, stripes, lattices and bricks, on an
uneven ground. All of it is drawn at random, so it has no license but that of the fonts,
which is the user's to check (DejaVu, Liberation and GNU FreeFont allow it). What is
there is left alone.
"""

import dataclasses
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from edvr_jax import cli, progress
from edvr_jax.errors import InputError
from edvr_jax.media.write.writer import open_writer

SIZE = (720, 1280)  # height and width of the frames
MARGIN = 1.6  # side of the poster over that of the frames
MAX_SPEED = 7.0  # pixels per frame, of the pan
MAX_TURN = 0.004  # radians per frame
MAX_ZOOM = 0.004  # per frame
BLUR = (0.6, 1.1)  # standard deviation in pixels, of the lens


@dataclasses.dataclass(frozen=True)
class MakeTextClips:
    """Make the clips.

    Attributes:
        fonts: Folder with TrueType fonts, searched recursively.
        clips: Folder for the clips.
        count: Number of clips.
        frames: Number of frames of each clip.
    """

    fonts: Path
    clips: Path
    count: int = 24
    frames: int = 60

    def run(self) -> None:
        """Make those that are missing."""
        fonts = sorted(self.fonts.rglob("*.ttf"))
        if not fonts:
            raise InputError(f"{self.fonts}: there is no .ttf file in it")
        self.clips.mkdir(parents=True, exist_ok=True)
        for index in progress.track(range(self.count), unit="clip"):
            folder = self.clips / f"text_{index:02}"
            if folder.exists():
                continue
            rng = np.random.default_rng(index)
            poster = draw_poster(rng, fonts)
            with open_writer(folder) as writer:
                for image in move_camera(rng, poster, self.frames):
                    writer.write(image)


def move_camera(
    rng: np.random.Generator, poster: np.ndarray, num_frames: int
) -> Iterator[np.ndarray]:
    """Yield what a camera sees that moves evenly over a poster.

    Args:
        rng: Source of the motion.
        poster: [H, W, 3], uint8.
        num_frames: Number of frames.

    Yields:
        Frames of ``SIZE``, [h, w, 3], uint8.
    """
    height, width = SIZE
    velocity = rng.uniform(-MAX_SPEED, MAX_SPEED, 2) * rng.uniform(0.1, 1)
    turn, zoom = rng.uniform(-1, 1, 2) * (MAX_TURN, MAX_ZOOM)
    start, blur = rng.uniform(-0.1, 0.1), rng.uniform(*BLUR)
    middle = np.array(poster.shape[1::-1]) / 2
    for time in np.arange(num_frames) - (num_frames - 1) / 2:
        # From the frame to the poster, about the middle of both.
        angle, factor = start + turn * time, np.exp(zoom * time)
        cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]])
        offset = middle + velocity * time - linear @ (width / 2, height / 2)
        image = cv2.warpAffine(
            poster,
            np.column_stack([linear, offset]),
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        yield cv2.GaussianBlur(image, (0, 0), blur)


def draw_poster(rng: np.random.Generator, fonts: list[Path]) -> np.ndarray:
    """Return a poster of panels with different contents, [H, W, 3], uint8."""
    height, width = (int(MARGIN * side) for side in SIZE)
    poster = Image.fromarray(_ground(rng, height, width))
    _drawing(rng, poster, _ink(rng, poster), fonts)
    painters = (_table, _text, _stripes, _lattice, _bricks, _drawing, _drawing)
    for _ in range(40):
        size = rng.integers(120, 700, 2)
        left, top = rng.integers(-100, (width, height))
        panel = Image.fromarray(_ground(rng, *size))
        ink = _ink(rng, panel)
        painters[rng.integers(len(painters))](rng, panel, ink, fonts)
        poster.paste(panel, (int(left), int(top)))
    return np.array(poster)


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a color that varies slowly and, on some, a fine texture."""
    color = rng.uniform(10, 245) + rng.standard_normal(3) * rng.choice((10, 60))
    image = np.full((height, width, 3), color, np.float32)
    amplitude = rng.uniform(0, 30) * (rng.random() < 0.7)
    for cells in (2, 6, 20, 60, 200):
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        image += amplitude * cv2.resize(noise, (width, height))
        amplitude *= rng.uniform(0.3, 0.8)
    return image.clip(0, 255).astype(np.uint8)


def _ink(rng: np.random.Generator, panel: Image.Image) -> tuple[int, ...]:
    """Return a color that differs from that of the panel."""
    ground = np.asarray(panel).mean((0, 1))
    shift = rng.uniform(40, 230) * np.where(ground.mean() < 128, 1, -1)
    color = ground + shift + rng.uniform(-30, 30, 3)
    return tuple(color.clip(0, 255).astype(int).tolist())


def _font(
    rng: np.random.Generator, fonts: list[Path], sizes: tuple[float, float]
) -> ImageFont.FreeTypeFont:
    size = np.exp(rng.uniform(*np.log(sizes)))
    return ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), size)


def _table(rng, panel, ink, fonts) -> None:
    """Draw the numbers of a month, as calendars have them."""
    draw = ImageDraw.Draw(panel)
    font = _font(rng, fonts, (16, 70))
    dx, dy = (int(font.size * rng.uniform(1.4, 2.2)) for _ in range(2))
    has_lines = rng.random() < 0.5
    for cell in range(42):
        x, y = cell % 7 * dx, cell // 7 * dy
        if has_lines:
            draw.rectangle((x, y, x + dx, y + dy), outline=ink)
        draw.text((x + dx // 4, y + dy // 8), str(cell % 31 + 1), ink, font)


def _text(rng, panel, ink, fonts) -> None:
    """Draw lines of letters, digits and signs."""
    draw = ImageDraw.Draw(panel)
    signs = np.array([*string.ascii_letters, *string.digits, *".,:-/()&    "])
    font = _font(rng, fonts, (14, 120))
    y = 0.0
    while y < panel.height:
        line = "".join(rng.choice(signs, int(2.5 * panel.width / font.size) + 1))
        draw.text((4, y), line, ink, font)
        y += font.size * 1.3


def _stripes(rng, panel, ink, fonts) -> None:
    """Draw parallel lines at an angle."""
    del fonts
    _draw_lines(rng, panel, ink, rng.uniform(0, np.pi))


def _lattice(rng, panel, ink, fonts) -> None:
    """Draw lines that cross."""
    del fonts
    angle = rng.uniform(0, np.pi) * (rng.random() < 0.6)
    for more in (0, np.pi / 2):
        _draw_lines(rng, panel, ink, angle + more)


def _draw_lines(rng, panel, ink, angle) -> None:
    period = np.exp(rng.uniform(*np.log((7, 50))))
    y, x = np.mgrid[: panel.height, : panel.width]
    distance = (x * np.cos(angle) + y * np.sin(angle)) / period % 1 * period
    thickness = period * rng.uniform(0.15, 0.6)
    # The share of a pixel that is covered.
    cover = np.clip(0.5 + thickness / 2 - np.abs(distance - period / 2), 0, 1)
    mask = Image.fromarray((255 * cover).astype(np.uint8))
    panel.paste(ink, (0, 0), mask)


def _drawing(rng, panel, ink, fonts) -> None:
    """Draw shapes with outlines, and branches between them."""
    del fonts
    draw = ImageDraw.Draw(panel)
    side = np.exp(rng.uniform(*np.log((10, 80))))
    line = int(rng.integers(1, 5))
    for _ in range(int(0.8 * panel.width * panel.height / side**2)):
        center = rng.uniform((0, 0), panel.size)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radii = side * rng.uniform(0.2, 1, (len(angles), 1))
        points = center + radii * np.column_stack([np.cos(angles), np.sin(angles)])
        corners = [tuple(point) for point in points.tolist()]
        if rng.random() < 0.3:
            draw.line(corners, ink, line)
        else:
            fill = tuple(rng.integers(0, 256, 3).tolist())
            draw.polygon(corners, fill, ink, line)


def _bricks(rng, panel, ink, fonts) -> None:
    """Draw a wall: rows of rectangles, every other one shifted by a half."""
    del fonts
    draw = ImageDraw.Draw(panel)
    dy = int(rng.integers(8, 50))
    dx = int(dy * rng.uniform(1, 3))
    gap = max(1, int(dy * rng.uniform(0.05, 0.4)))
    for row in range(panel.height // dy + 1):
        for x in range(-(row % 2) * dx // 2, panel.width, dx):
            shade = tuple(int(v * rng.uniform(0.8, 1)) for v in ink)
            box = (x, row * dy, x + dx - gap - 1, row * dy + dy - gap - 1)
            draw.rectangle(box, fill=shade)


if __name__ == "__main__":
    sys.exit(cli.run(lambda: tyro.cli(MakeTextClips).run()))
