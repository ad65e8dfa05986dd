"""Networks, importance, masks, calibration, training, evaluation. Importing this package never imports torch."""
