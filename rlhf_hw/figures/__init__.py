"""Figures and tables to look at, drawn from plain data."""
