"""Preference data: templates from rows to pairs, reading of data sets, files of scores."""
