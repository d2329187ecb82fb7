"""The quickstart: a drawn data set, stages with their progress, one page of results."""
