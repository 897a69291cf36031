"""How an implementation is proven on a device: trials in float64, their sizes and their times."""
