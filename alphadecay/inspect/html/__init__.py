"""A run as one HTML file: what it says (run_reader, summary_cards, refreshes, spectra), how that is
drawn (curves, heatmaps, spectrum_plot), the page.
"""
