"""Quality tiers: names that requests use, thresholds that operators move."""
