"""Quality against MACs: metrics, data sets, the curves behind `pixeltier evaluate`."""
