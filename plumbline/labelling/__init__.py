"""What people and label tools say of a job's pictures, as critiques: our own JSON, COCO, masks as PNG files."""

from plumbline.labelling.batches import split_batches
from plumbline.labelling.coco import write_coco
from plumbline.labelling.gallery import Findings, Gallery
from plumbline.labelling.reading import load_json, read_batches, read_critiques
from plumbline.labelling.writing import list_batches, read_critique

__all__ = [
    "Findings",
    "Gallery",
    "list_batches",
    "load_json",
    "read_batches",
    "read_critique",
    "read_critiques",
    "split_batches",
    "write_coco",
]
