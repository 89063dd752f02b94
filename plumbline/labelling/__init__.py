"""What people and label tools say of a job's pictures, as critiques: our own JSON, COCO, masks as PNG files."""

from plumbline.labelling.batches import split_batches
from plumbline.labelling.gallery import Findings, Gallery
from plumbline.labelling.reading import read_critiques

__all__ = ["Findings", "Gallery", "read_critiques", "split_batches"]
