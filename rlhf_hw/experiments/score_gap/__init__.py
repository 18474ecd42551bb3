"""The gap between the scores of generated replies and of references, taken apart (notebook 06).

`edits` corrects pairs of replies, `decompose` holds the arithmetic, `unfamiliarity` reads hidden states,
`policy_gap` measures one policy's gap, `faults` and `planted_trials` test the method on faults that are
known, and `take_apart` is the experiment as a whole.
"""
