"""`schematic-native bench`: what a check and a settle cost on this machine, beside other libraries.

Samples of all subjects are interleaved: one short run of each in every round. A processor that changes
its pace, or a busy neighbour, then slows all of them, and the ratios within a round stand. `subjects`
and `peers` say what is measured, `rounds` measures, `scenarios` are figures of another kind, `estimates`
makes medians with confidence intervals of samples, and `table`, `page` and `document` show them.
"""
