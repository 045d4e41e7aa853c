"""Stores and runs as tables, plots and pages."""
