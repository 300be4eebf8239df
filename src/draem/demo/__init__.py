"""The rendered product of `draem demo`: a turned flange with defects, drawn by formulas."""
