"""Draw scenes ahead of time into shards of plain arrays, so that training spends its time on training.

Run: python -m services.lvlm.nano.draw --cache DIR --world NAME --shards N [--first I] [--pictures DIR]
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from services.lvlm.nano import things
from services.lvlm.nano.segments import MAX_SEGMENT_COUNT, draw_segments
from services.lvlm.nano.worlds import WORLDS, Draw, World, open_world

SHARD_SCENES = 2000
NO_THING = 255
SEEDS_PER_WORLD = 100_000


def record_type(side_px: int, channel_count: int) -> np.dtype:
    """One drawn scene with one cut into segments; smaller pictures stand in the top left corner."""
    plane = (side_px, side_px)
    return np.dtype(
        [
            ("picture", np.uint8, plane if channel_count == 1 else (*plane, channel_count)),
            ("cover", np.uint8, plane),
            ("numbers", np.uint8, plane),
            ("side_px", np.uint8),
            ("segment_count", np.uint8),
            ("covered", np.uint8, (MAX_SEGMENT_COUNT, 2)),
            ("shares", np.float16, (MAX_SEGMENT_COUNT, things.THING_COUNT)),
        ]
    )


def draw_shard(seed: int, split: str, world: World, draw: Draw, scene_count: int = SHARD_SCENES) -> np.ndarray:
    """Draw records of a split; each picture comes twice, with different evidence."""
    rng = np.random.default_rng(seed)
    records = np.zeros(scene_count, dtype=record_type(world.side_px, world.channel_count))
    for index in range(scene_count):
        if index % 2 == 0:
            scene = draw(rng, split)
        segments = draw_segments(rng, scene.cover)
        side = scene.cover.shape[0]
        record = records[index]
        is_flat = scene.picture.ndim == 2 and world.channel_count == 3
        record["picture"][:side, :side] = scene.picture[:, :, None] if is_flat else scene.picture
        record["cover"][:side, :side] = scene.cover
        record["numbers"][:side, :side] = segments.numbers
        record["side_px"], record["segment_count"] = side, len(segments.covered)
        record["shares"][: len(segments.shares)] = segments.shares
        record["covered"][:] = NO_THING
        for number, covered in enumerate(segments.covered):
            record["covered"][number, : len(covered)] = covered
    return records


@dataclass(frozen=True)
class View:
    """A record as it is shown. Shapes: picture (side, side) or (side, side, 3), cover and numbers (side, side), all uint8.

    `covered` and `shares`, (segment, THING_COUNT), are the segments' truth, as in `segments.Segments`.
    """

    picture: np.ndarray
    cover: np.ndarray
    numbers: np.ndarray
    covered: tuple[tuple[int, ...], ...]
    shares: np.ndarray


def view_record(record: np.ndarray) -> View:
    """Cut a record down to the size of its picture and the number of its segments."""
    side, count = int(record["side_px"]), int(record["segment_count"])
    planes = (record[name][:side, :side] for name in ("picture", "cover", "numbers"))
    covered = tuple(tuple(int(code) for code in row if code != NO_THING) for row in record["covered"][:count])
    return View(*planes, covered, record["shares"][:count])


def main() -> None:
    """Write the missing shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--world", choices=tuple(WORLDS), required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--pictures", type=Path, help="real pictures to draw marks on; left out where the folder is absent"
    )
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    draw = open_world(arguments.world, arguments.pictures)
    first_seed = 1000 + SEEDS_PER_WORLD * list(WORLDS).index(arguments.world)
    for index in range(arguments.first, arguments.first + arguments.shards):
        path = arguments.cache / f"{arguments.world}-{index:04d}.npy"
        if not path.exists():
            partial = path.with_suffix(".partial.npy")
            with threadpool_limits(1):  # the arrays are tiny: threads would only wait for each other
                np.save(partial, draw_shard(first_seed + index, "train", WORLDS[arguments.world], draw))
            partial.rename(path)


if __name__ == "__main__":
    main()
