"""Plural preferences: what one reward makes of people who want different things, and what others make of it.

- `crowd`: pairs of the simulated world, groups and users who judge them, and what each of them truly wants
- `group_models`: one reward against several for two groups that disagree about length
- `user_models`: a reward for each user, from few comparisons
- `user_variable`: the user as a hidden variable that a network reads from comparisons (in torch)
- `gated_heads`: objective heads weighted by the prompt (in torch)
- `reply_states`: features of replies from a language model, which was told nothing of what counts
- `welfare`: whom the best of many replies serves, by the rule that joins several rewards
- `expectations`: what was expected before anything was run, and what the numbers allow to say
- `plural_preferences`: all of that in one result
- `argument_votes`, `vote_models`, `voters`, `people`: the same put to real people's votes on arguments
"""
