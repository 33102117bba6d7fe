"""A run as one HTML file: what is shown (gather, facts, refreshes, spectra), how it is drawn
(curves, maps, tails), the page.
"""
