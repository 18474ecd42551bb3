"""What the notebooks ask, one module or folder an experiment: numbers and tables from models and data.

`result` says what an experiment returns and how one is added. `pair_evaluation` and `learning_curve` belong
to notebook 02, `score_distributions` to 03, `replies` to 05, `score_gap` to 06, `recorded` to 07;
`scored_pairs`, `answers` and `within_prompts` make the tables that they evaluate. `score_texts` is the job of
`rlhf-hw score`, `check_replies` that of `rlhf-hw check-replies`.
"""
