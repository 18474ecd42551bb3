"""Worlds of one prompt and a few replies, in which DPO and its variants can be computed exactly.

No language model, and no sampling error but where labels are drawn. The losses are the library's own, in
float64. `policy_classes` holds what all share. `pair_coverage`, `label_noise`, `rounds` and `displacement`
are four worlds for the written questions on DPO. `exact_expectations` says what was expected of them,
`dpo_variants` puts all together.
"""
