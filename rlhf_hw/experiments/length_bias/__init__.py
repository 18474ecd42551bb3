"""A taste for length, planted in the labels: what a reward model makes of it, and what remedies take away.

`length_expectations` was written before anything was run; `biased_labels` draws labels of which length decides
a known share, `remedies` trains reward models with and without a remedy, `length_bias` measures them over
replicates, `whole_models` repeats the two that matter with whole models, `people_lengths` looks at pairs that
people have judged.
"""
