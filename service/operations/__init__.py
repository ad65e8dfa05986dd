"""What runs beside requests for the operator: brownout, shadow, the watch over the tier file, prediction."""
