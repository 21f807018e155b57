"""The report: one page about a whole pipeline run, made of what the stages left in data/."""
