"""Settings, and what of the machine they depend on."""
