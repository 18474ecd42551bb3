"""Worlds of one prompt and a few replies, in which DPO and its variants can be computed exactly.

No language model, and no sampling error but where labels are drawn: the loss functions are the library's
own, in float64. `exact_policies` holds what all share; `beside_rlhf`, `label_noise`, `rounds` and
`displacement` are four worlds for the written questions on DPO; `forecasts` says what was expected,
`dpo_variants` puts all together.
"""
