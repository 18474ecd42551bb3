"""The report: numbers and figures filled into its text, and the text typeset."""

LANGUAGES = ("en", "zh")  # each a text report/report.<language>.md, and words in report/tables.yaml
