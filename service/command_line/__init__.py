"""The command `pixeltier`."""
