"""Requests that are answered later: what runs, and results for a bounded time in bounded space."""
