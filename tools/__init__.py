"""What one runs by hand, beside training and prediction."""
