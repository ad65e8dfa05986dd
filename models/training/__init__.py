"""Training: data, losses, the loops behind `pixeltier train`."""
