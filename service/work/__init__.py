"""What fronts and workers say to each other, and the interface of a pool of workers."""
