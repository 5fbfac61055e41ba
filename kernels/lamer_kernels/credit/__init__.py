"""Credit assignment over turn tables."""
