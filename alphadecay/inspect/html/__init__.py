"""A run, or several, as one HTML file: what it says (report, compare, summary_cards, refreshes,
spectra), how that is drawn (curves, heatmaps, spectrum_plot), the page.
"""
