"""Where a version comes from, whether the workspace still matches it, and making it again."""
