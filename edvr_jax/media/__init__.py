"""Videos and images in files (FFmpeg, OpenCV); knows no network."""
