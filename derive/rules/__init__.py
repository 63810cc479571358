"""Rules that rewrite one expression as another of the same value: gradients, slopes, the reduction of averages."""
