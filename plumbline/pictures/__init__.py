"""From a picture's file to its pixels: one way for the client and all services, so that masks, maps and digests speak of the same pixels."""

from plumbline.pictures.decoding import decode_picture, read_picture_size
from plumbline.pictures.digest import picture_digest
from plumbline.pictures.limits import EXPECTED_FILE, PictureError, PictureLimits

__all__ = ["EXPECTED_FILE", "PictureError", "PictureLimits", "decode_picture", "picture_digest", "read_picture_size"]
