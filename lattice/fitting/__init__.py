"""Fits: numbers of a model from tables of measurements, with what the data can and cannot tell."""
