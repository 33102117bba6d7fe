"""The end of a run for people: the heat map, the closing lines, the HTML report."""
