"""What was expected of DPO's variants on a language model before any was trained, and what may be said.

The expectations were written from the literature (Rafailov et al. 2023, Azar et al. 2024, Chowdhury et al. 2024,
Meng et al. 2024, Park et al. 2024, Pang et al. 2024, Gorbatovski et al. 2025) and stay as they were; each names
the claim that bears it out.
"""

EXPECTATIONS = {
    "policies_dpo_gains": "DPO on pairs that SFT has not seen raises gold",
    "policies_likelihood_gains": "so does the likelihood of the chosen replies alone: imitation goes on",
    "policies_dpo_beats_likelihood": "DPO alone gains more gold than that likelihood alone",
    "policies_dpo_adds": "DPO with the likelihood gains more than the likelihood alone",
    "policies_likelihood_adds_nothing": "and no more than DPO alone",
    "policies_none_beats_dpo": "with a rate tuned for each, no variant gains more gold than DPO",
    "policies_without_reference_farther": "SimPO and ORPO, which have no reference, move farther than DPO",
    "policies_ipo_nearer": "IPO, whose margin is bounded, moves less far than DPO",
    "policies_lengths_shorter": "R-DPO and SimPO write shorter replies than DPO",
    "policies_flips_cost": "flipped labels cost DPO gold",
    "policies_rdpo_holds": "told their rate, rDPO then gains more than DPO",
    "policies_cdpo_holds": "so does cDPO",
    "policies_shuffled_nothing": "labels at random bring no gold (control)",
    "policies_shuffled_no_lead": "and none beyond the likelihood on the same labels (control)",
}
