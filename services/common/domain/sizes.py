"""Limits of sizes that several parts have in common, in bytes."""

MEBIBYTE = 2**20
MAX_IMAGE_BYTES = 20 * MEBIBYTE
"""Largest image that is fetched, read or shown, unless a setting says otherwise."""
MAX_OBJECT_BYTES = 32 * MEBIBYTE
"""Largest stored image that commands read; a setting may have let a larger image in."""
