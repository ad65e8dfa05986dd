"""What a request did, and how it is told: the record, metrics, log lines, spans."""
