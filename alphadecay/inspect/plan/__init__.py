"""What a refresh and a rank's memory would be, from shapes alone: nothing is built or run."""
