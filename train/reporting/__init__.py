"""What a run leaves behind: summary.json, the heat map, the closing lines."""
