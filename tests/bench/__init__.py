"""The bench behind `make bench`: both sides of each comparison interleaved in one run."""
