"""What a run achieved: rates with intervals, paired comparisons, and the published numbers beside them."""
