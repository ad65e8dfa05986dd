"""What the service knows of each task, in one description a task; routes, protocols, pool and metrics read it."""
