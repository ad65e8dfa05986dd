"""How a client talks to the service: deadline, retries, errors, what it reads."""
