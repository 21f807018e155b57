"""From a source's items to rows of pixels on disk: each file decoded once, in parallel, in bounded memory."""
