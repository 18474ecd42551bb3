"""The report: numbers and figures filled into its text, and the text typeset."""
