"""Image classification: a class for each image, compared by how often the first guess is right."""
