"""The gap between the scores of generated replies and of references, taken apart (notebook 06).

`edits` corrects pairs of replies, `decompose` holds the arithmetic, `unfamiliarity` reads hidden states, and
`instruments` bundles what one reward model's gaps are measured with. `policy_gap` measures one policy's gap;
`faults`, `world_faults` and `planted_trials` test the method on faults that are known, and `trial_counts`
counts what came out. `replicate_gaps` does all this for one training, `take_apart` is the experiment as a
whole.
"""
