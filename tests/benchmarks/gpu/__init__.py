"""Benchmarks that need a CUDA device; `make bench` leaves them out."""
