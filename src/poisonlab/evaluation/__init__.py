"""Results of a run: rates with intervals, paired comparisons, and the published numbers beside them."""
