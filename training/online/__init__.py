"""Learning while serving: feedback is logged durably, learned from in small steps, published or rolled back."""
