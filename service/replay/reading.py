"""A recording, whichever of its forms it has: a table as CSV or JSON lines, or the service's log."""

import itertools
from pathlib import Path

from pixeltier.service.replay.arrival_table import read_table
from pixeltier.service.replay.arrivals import Recording, ReplayError, json_object, numbered_lines
from pixeltier.service.replay.image_pool import ImagePool
from pixeltier.service.replay.service_log import read_log


def read_recording(path: Path, images: Path | None, seed: int) -> Recording:
    """The arrivals of a file, each with its image.

    Args:
        images: the folder that a table's paths start from, None: the table's own; or that images are drawn from for a
            log, which holds none, by chance of this seed.

    Raises:
        ReplayError: what is wrong, with the line. OSError: the file cannot be read.
    """
    lines = numbered_lines(path)
    first = next(((number, text) for number, text in lines if text.strip()), None)
    if first is None:
        raise ReplayError(f"{path}: the file is empty")
    everything = itertools.chain([first], lines)
    if not first[1].lstrip().startswith("{"):
        return read_table(path, everything, images or path.parent, json_lines=False)
    if "event" not in json_object(path, *first):
        return read_table(path, everything, images or path.parent, json_lines=True)
    if images is None:
        raise ReplayError(f"{path} is a log, which holds no images: give a folder of some by --images")
    return ImagePool.of(images, seed).drawn(read_log(path, everything))
