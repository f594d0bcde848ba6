"""Derivatives as expressions."""
