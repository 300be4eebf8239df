"""From normal images to a model file: recipe, losses, training."""
