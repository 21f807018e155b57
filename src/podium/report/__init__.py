"""The report: one page about a pipeline run, made from what the stages left in data/."""
