"""How many strokes it takes until the nucleus is one class: HeLa, with a simulated person who labels errors.

    SCCS_DATA=DIR python -m benchmarks.studies.strokes [--rounds 8] [--seed 0] [--out benchmarks/results/teaching]
                                                       [--picture docs/images/teach_hela.jpg]

`sccs_plus` is trained on the slice, without labels. The first round adds three strokes per class at random places; each
further round adds up to four per class in the middle of the largest areas that are still wrong. The painted slice is
also the scored one: this shows how teaching proceeds, not how well it generalises to other images.

The image is slice 170 of EMPIAR-10478, archived under CC0. Writes OUT/strokes.md and OUT/strokes.csv, and the picture.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt

from benchmarks.pages import Origin, markdown, publish, typed
from sccs.arguments import positive
from sccs.pipeline import Pipeline
from sccs.system.colours import class_colours, cluster_colours, colourise
from sccs.system.exits import guard
from sccs.system.log import quiet_log

COMMAND = "python -m benchmarks.studies.strokes"
NAMES = {1: "nucleus", 2: "rest of the cell", 3: "outside"}
CODES = {1: 2, 2: 1, 3: 2, 4: 3}  # of the labels: envelope, nucleus, rest, background
LONGEST, WIDTH, LEAST = 80, 12, 5  # px: a stroke's length and width; the half-width of an area worth a stroke


def truth_of(labels: np.ndarray) -> np.ndarray:
    """Codes of NAMES (Y, X), 0 where there is no label."""
    table = np.zeros(256, np.uint8)
    table[list(CODES)] = list(CODES.values())
    return table[labels]


def stroke(painted: np.ndarray, truth: np.ndarray, y: int, x: int, length: int, angle: float) -> None:
    """Paint (Y, X) along a line around (y, x), in the true class at (y, x), and only where that class is."""
    half, code = WIDTH // 2, truth[y, x]
    for step in np.linspace(-length / 2, length / 2, max(2, length)):
        row, column = max(half, round(y + step * np.sin(angle))), max(half, round(x + step * np.cos(angle)))
        here = np.s_[row - half : row + half, column - half : column + half]
        painted[here][truth[here] == code] = code


def first_places(truth: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """(y, x, length) of three strokes in each class, away from its border."""
    places = []
    for code in NAMES:
        inside = np.argwhere(binary_erosion(truth == code, iterations=15))
        places += [(int(y), int(x), LONGEST) for y, x in rng.choice(inside, 3, replace=False)]
    return places


def wrong_places(
    truth: np.ndarray, seen: np.ndarray, codes: Iterable[int] = tuple(NAMES)
) -> list[tuple[int, int, int]]:
    """(y, x, length) of up to four strokes in each class, in the middle of the largest areas that are wrong."""
    places = []
    for code in codes:
        depth = distance_transform_edt((truth == code) & (seen != code))
        for _ in range(4):
            y, x = map(int, np.unravel_index(depth.argmax(), depth.shape))
            if depth[y, x] < LEAST:
                break
            places.append((y, x, int(min(LONGEST, 4 * depth[y, x]))))
            depth[max(0, y - LONGEST) : y + LONGEST, max(0, x - LONGEST) : x + LONGEST] = 0
    return places


def drawn(image: np.ndarray, clusters: np.ndarray, rounds: dict[int, np.ndarray], painted: np.ndarray) -> Figure:
    """The slice, its clusters, and the classes after the first and the last round; rounds: by number of strokes."""
    colours = class_colours(list(NAMES.values()))
    table = {code: colours[name] for code, name in NAMES.items()}
    panels = {"slice": colourise(image, [], image), "8 clusters": colourise(clusters, cluster_colours(8), image)}
    panels |= {f"after {number} strokes": colourise(seen, table, image) for number, seen in rounds.items()}
    last = list(panels.values())[-1]
    last[painted > 0] = colourise(painted, table)[painted > 0]
    figure = Figure(figsize=(10.2, 2.85), layout="constrained")
    for axis, (title, picture) in zip(figure.subplots(1, len(panels)), panels.items()):
        axis.imshow(picture[::2, ::2], interpolation="none")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(COMMAND, description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=positive, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/teaching"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/teach_hela.jpg"))
    args = parser.parse_args(argv)
    folder = Path(os.environ["SCCS_DATA"]) / "hela"
    image, labels = (np.asarray(Image.open(folder / f"z170_{kind}.png")) for kind in ("image", "labels"))
    truth, rng = truth_of(labels), np.random.default_rng(args.seed)
    with quiet_log():
        model = Pipeline.from_recipe("sccs_plus", [f"seed={args.seed}"], device="cpu")
        model.fit(image[None], voxel_size=(50, 10, 10))
        clusters = model.segment(image[None])[0]
        painted, places, strokes = np.zeros_like(truth), first_places(truth, rng), 0
        rows, seen = [], {}
        for number in range(args.rounds):
            for y, x, length in places:
                stroke(painted, truth, y, x, length, rng.uniform(0, np.pi))
            strokes += len(places)
            model.teach(painted[None], image[None], classes=NAMES)
            seen[strokes] = model.predict(image[None])[0]
            found = [(seen[strokes] == code, truth == code) for code in NAMES]
            scores = [2 * (one & two).sum() / (one.sum() + two.sum()) for one, two in found]
            rows.append([number, strokes, int((painted > 0).sum()), *(f"{score:.4f}" for score in scores)])
            print(*rows[-1], flush=True)
            places = wrong_places(truth, seen[strokes])
    first, *_, last = seen
    figure = drawn(image, clusters, {first: seen[first], last: seen[last]}, painted)
    figure.savefig(args.picture, dpi=150, pil_kwargs={"quality": 85})
    heads = ["round", "strokes", "painted px", *NAMES.values()]
    text = (
        "Dice of the classes after each round of strokes, on the painted slice. The strokes are simulated and fall on "
        "areas that are still wrong.\n\n" + markdown(heads, [list(map(str, row)) for row in rows])
    )
    print(publish(args.out, "strokes", "Strokes on HeLa", Origin.here(typed(COMMAND, argv)), text, heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(guard(main)())
