"""DPO's variants as they train language models: the same pairs, a learning rate tuned for each loss.

- `variant_expectations`: what was expected before anything was run, and what the numbers allow to say
- `variant_settings`: the losses and their settings
- `variant_trainings`: labels, a training with one loss and one learning rate, the policy's answers
- `policy_variants`: gold, distance and length of all of them, in one result
"""
