"""The only collectives: how a whole matrix reaches its owner rank, and how every rank learns the
results.
"""
