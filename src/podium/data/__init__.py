"""The prepared images: on disk, decoded, divided, shared with workers; and how often the sealed ones were opened."""
