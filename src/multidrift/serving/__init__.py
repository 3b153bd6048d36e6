"""Many small requests on one model: batched as they come, within bounds."""
