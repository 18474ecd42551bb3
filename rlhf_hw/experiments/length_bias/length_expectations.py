"""What was expected of length bias before anything was run, and what the numbers allow to say.

The expectations were written from the literature (Singhal et al. 2024, Shen et al. 2023, Chen et al. 2024,
Huang et al. 2025, Bu et al. 2025) and stay as they were; each names the claim that bears it out.
"""

EXPECTATIONS = {
    "length_planted": "labels that length decides in part teach a taste for length at equal gold",
    "length_control_free": "labels without it do not (control)",
    "length_grows": "the larger the share, the larger the taste",
    "length_splits_accuracy": "the biased model is right more often where the better reply is the longer one",
    "length_costs_gold": "the best of many by the biased model is worth less than by the control",
    "length_lengthens": "and it is longer",
    "length_remedies_lower": "every remedy lowers the coefficient of length",
    "length_balance_leaves": "balanced pairs lower it and leave some of it",
    "length_remedy_works": "one remedy at least brings its interval over 0 without loss of gold",
    "length_independence_costs": "what makes score and length independent overshoots: length is in part earned",
    "length_too_strong": "twice the penalty turns the coefficient below 0",
    "length_too_strong_costs": "and costs gold against the penalty itself",
    "length_whole_planted": "whole models learn the taste as heads on frozen states do",
    "length_whole_works": "and the remedy works on them, too",
}
