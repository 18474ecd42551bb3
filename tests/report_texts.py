"""Values and hostile texts that both tests of the report fill in."""

VALUES = {
    "rm.validation.accuracy": 0.71234,
    "rm.validation.accuracy_low": 0.68,
    "rm.validation.accuracy_high": 0.7432,
    "data.train.pairs": 12000,
    "dpo.change": -3.5,
    "run.processor": "CPU_1 *x*",
}
HOSTILE = (
    '<script>alert(1)</script> \\input{/etc/passwd} #eval("1+1") $x^2$ {{key}} | a|b **bold** _it_ `code` '
    "[link](http://x.org) ![i](fig/a.pdf) @gao2023scaling &lt; ~ ^ -- ... a-?b /* c */ // d \U0001f600 \u202e"
)
STARTS = [
    "1. item",
    "12) item",
    "- item",
    "+ item",
    "= head",
    "# head",
    "/ term: x",
    "> quote",
    "    code",
    ": def",
    "| x",
]
