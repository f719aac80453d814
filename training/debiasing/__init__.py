"""What a training run corrects for: popularity by time, weights of events, sensitive attributes."""
