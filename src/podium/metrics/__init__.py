"""What predictions are worth: the metrics, one file a family, and pictures of them."""
