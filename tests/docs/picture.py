"""The picture of the README, out of the report of a quickstart run.

make demo
python -m tests.docs.picture runs/quickstart
"""

import sys
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parents[2] / "configs" / "quickstart.png"
WIDTH, COLOURS = 1000, 256


def write_picture(run: Path, target: Path = TARGET) -> Path:
    """Write the last 3-D view of a run's report, small enough for a repository."""
    picture = Image.open(run / "report" / "bone_end.png").convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        target, optimize=True
    )
    return target


if __name__ == "__main__":
    print(write_picture(Path(sys.argv[1])))
