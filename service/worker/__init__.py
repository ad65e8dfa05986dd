"""What runs inside a worker slot: decode, infer, encode. The only package of the service that meets torch."""
