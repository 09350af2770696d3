"""Write videos, images and the streams that are copied."""
