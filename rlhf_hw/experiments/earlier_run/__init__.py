"""The replies of the earlier report's own run, asked what its riddle is made of (notebook 13).

That report saw scores near 0 for pairs and near 10 for generated replies, and DPO below its base; it printed
no number, and its reward model is gone, but its replies are public. `reply_forms` says what can be seen of
them without a model, `judged_replies` puts beside them what reward models of ours say, `gap_parts` splits
differences of scores into length, kind of text and rest, `own_pairs` asks what the pairs a judge learned from
can tell of replies of that length, and `riddle` is the experiment as a whole. `judges` trains these reward
models and lets them score; `planned_judges` says which they are and where.
"""
