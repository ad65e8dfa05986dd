"""What runs inside a worker: decode, infer, encode. The only package of the service that meets torch."""
