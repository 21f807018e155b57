"""The images: sources, decoding, audit, split, prepared data on disk and on a cluster, and test set accesses."""
