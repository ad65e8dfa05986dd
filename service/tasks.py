"""The two things the service does, as the strings every layer agrees on."""

from enum import StrEnum


class Task(StrEnum):
    """A model's task; its value is the model's name in URLs, metrics and the tier table."""

    CLASSIFY = "classify"
    SUPER_RESOLVE = "super-resolve"


SCALE = 4
"""Super-resolution multiplies each side by exactly this."""

CUSTOM_TIER = "custom"
"""What `X-Tier` says when the request named a threshold or a budget instead of a tier."""

NO_TIER = "none"
"""Metric label of a request that failed before its tier was known."""
