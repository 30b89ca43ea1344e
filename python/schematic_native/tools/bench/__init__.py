"""`schematic-native bench`: measures a check and a settle on this machine, next to other libraries.

Samples of all subjects are interleaved, one short run of each in every round: if the processor changes its
speed or another program is busy, all of them become slower, and the ratios within a round still hold.
`subjects` and `peers` are measured by `rounds`; `scenarios` has figures of other kinds; `estimates` computes
medians with confidence intervals; `table`, `page` and `document` show them. `command` has the flags.
"""
