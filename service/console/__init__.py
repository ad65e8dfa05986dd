"""The page at `/`: static files that run as they are, and `assets.py`, which reads them."""
