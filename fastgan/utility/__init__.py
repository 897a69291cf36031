"""Is it worth it, and for whom: a classifier with and without generated volumes, patients apart."""
