"""Numerical routines that are independent of graphs."""
