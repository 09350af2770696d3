"""Read videos, images and what they carry."""
