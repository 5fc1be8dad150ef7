"""genseg: from a folder of unlabelled images to a pretrained encoder, instance alpha maps, and a measured answer."""

__version__ = "0.1.0"
