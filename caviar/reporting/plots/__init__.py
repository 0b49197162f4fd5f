"""Figures of a saved run, one file each, drawn with plotly."""
