"""A trained model as a version: exported, packed, described, registered, found again and reproduced."""
