"""The report: numbers and figures filled into its text, and the text typeset."""

LANGUAGES = ("en", "zh")  # each a text report/<text>.<language>.md, and words in report/tables.yaml
TEXTS = ("report", "report.short")  # the whole report, and the few pages that one hands in
