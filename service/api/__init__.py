"""HTTP: routes, problems, negotiation. No image is decoded here and no torch imported."""
