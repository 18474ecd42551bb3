"""A taste for length, planted in the labels: what a reward model makes of it, and what remedies take away.

- `length_expectations`: what was expected before anything was run, and what the numbers allow to say
- `biased_labels`: replies as a frozen model reads them, and labels of which length decides a known share
- `remedies`, `two_heads`: reward models from such labels, with and without a remedy
- `length_bias`: what length is worth to each of them, over several replicates, in one result
- `whole_models`: the two that matter once more, trained end to end
- `length_policies`, `policy_expectations`: policies from such labels, by DPO and by losses against length
- `people_lengths`: pairs that people have judged
"""
